//go:build !unix

package main

import (
	"errors"
	"net"
	"os"
)

var errNoSocket = errors.New("this system has no sockets with permissions")

func bindSocket(string) (*os.File, error) { return nil, errNoSocket }

func connectedPair() (ours, theirs *os.File, err error) { return nil, nil, errNoSocket }

func listen(*os.File) (net.Listener, error) { return nil, errNoSocket }
