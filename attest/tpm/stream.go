package tpm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2/transport"
)

// maxResponse is the largest response that is read, in bytes. TPMs answer with 4096 at most (PC
// Client Platform TPM Profile §5.3, TPM2_PT_MAX_RESPONSE_SIZE).
const maxResponse = 64 << 10

// Stream speaks to a TPM over an open file: the kernel's device (/dev/tpmrm0) or a connection to
// an emulator's data socket. A process that may open nothing itself is given such a file. The file
// must be in blocking mode; it stays the caller's.
func Stream(rw io.ReadWriter) transport.TPM { return &stream{rw: rw} }

type stream struct {
	mu sync.Mutex // one command at a time
	rw io.ReadWriter
}

// Codes by which a TPM asks to be asked again (TPM 2.0 Part 2 §6.6.3). The kernel's driver does that
// by itself.
const rcYielded, rcTesting, rcRetry = 0x908, 0x90a, 0x922

// How often, and after which pause at first; it doubles.
const (
	retries    = 10
	retryPause = 5 * time.Millisecond
)

// Send implements transport.TPM.
func (s *stream) Send(command []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pause := retryPause
	for attempt := 0; ; attempt++ {
		response, err := s.send(command)
		if err != nil {
			return nil, err
		}
		switch binary.BigEndian.Uint32(response[6:]) {
		case rcYielded, rcTesting, rcRetry:
			if attempt < retries {
				time.Sleep(pause)
				pause *= 2
				continue
			}
		}
		return response, nil
	}
}

// send is one attempt. The kernel's device gives up a response in one read, a socket in
// as many as it likes; both begin with the response's size (TPM 2.0 Part 1 §18).
//
//	response = tag (2) / size (4) / code (4) / parameters
func (s *stream) send(command []byte) ([]byte, error) {
	if _, err := s.rw.Write(command); err != nil {
		return nil, fmt.Errorf("tpm: send a command: %w", err)
	}
	var response bytes.Buffer
	part := make([]byte, 4096)
	for {
		n, err := s.rw.Read(part)
		response.Write(part[:n])
		if size := response.Len(); size >= 10 {
			switch want := int64(binary.BigEndian.Uint32(response.Bytes()[2:])); {
			case want < 10 || want > maxResponse || want < int64(size):
				return nil, fmt.Errorf("tpm: a response of %d bytes says that it has %d: this is no TPM 2.0", size, want)
			case want == int64(size):
				return response.Bytes(), nil
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("tpm: read the response: %w", err)
		}
	}
}
