//go:build !linux

package vsock

import (
	"context"
	"os"
)

func dial(context.Context, uint32, uint32) (*os.File, error) { return nil, ErrUnavailable }
func listen(uint32) (*os.File, error)                        { return nil, ErrUnavailable }
func accept(*os.File) (*os.File, error)                      { return nil, ErrUnavailable }
