//go:build !linux

package main

import (
	"context"
	"errors"
)

func beFirstProcess() {}

func runInMachine(context.Context, *task, machine) error { return errors.New("machines are Linux") }
