package tpm_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/go-teep/teep/attest/tpm"
)

// response is one with that code and some parameters.
func response(code uint32, parameters ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, 0x8001)
	b = binary.BigEndian.AppendUint32(b, uint32(10+len(parameters)))
	return append(binary.BigEndian.AppendUint32(b, code), parameters...)
}

func TestStream(t *testing.T) {
	for name, c := range map[string]struct {
		answers [][]byte // to each attempt
		want    []byte
		fails   bool
	}{
		"an answer":         {[][]byte{response(0, 1, 2)}, response(0, 1, 2), false},
		"an error":          {[][]byte{response(0x101)}, response(0x101), false},
		"busy at first":     {[][]byte{response(0x922), response(0x908), response(0)}, response(0), false},
		"too short":         {[][]byte{{0x80, 1, 0, 0, 0, 9, 0, 0, 0, 0}}, nil, true},
		"more than it says": {[][]byte{append(response(0), 0)}, nil, true},
		"too large":         {[][]byte{{0x80, 1, 0xff, 0, 0, 0, 0, 0, 0, 0}}, nil, true},
		"cut off":           {[][]byte{response(0, 1, 2, 3)[:12]}, nil, true},
		"nothing":           {[][]byte{{}}, nil, true},
	} {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			command := make([]byte, 4)
			for _, a := range c.answers {
				if _, err := io.ReadFull(theirs, command); err != nil {
					return
				}
				for _, part := range [][]byte{a[:len(a)/2], a[len(a)/2:]} {
					if _, err := theirs.Write(part); err != nil {
						return
					}
				}
			}
		}()
		got, err := tpm.Stream(ours).Send([]byte("ping"))
		if (err != nil) != c.fails || !bytes.Equal(got, c.want) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
		if name == "cut off" && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", name, err)
		}
		_ = ours.Close()
	}
}
