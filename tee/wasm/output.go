package wasm

import (
	"errors"
	"log/slog"
	"strings"
)

// output collects stdout up to a limit, and calls stop when an application writes more.
type output struct {
	limit    int
	buf      []byte
	overflow bool
	stop     func()
}

var errOutput = errors.New("output limit reached")

func (o *output) Write(p []byte) (int, error) {
	if len(p) > o.limit-len(o.buf) {
		o.overflow = true
		o.stop()
		return 0, errOutput
	}
	o.buf = append(o.buf, p...)
	return len(p), nil
}

const (
	stderrKept   = 4 << 10  // bytes of the end that a failed command's caller gets
	stderrLogged = 64 << 10 // bytes per invocation that go to the log
)

// stderrLog logs what an application writes to stderr, line by line, and keeps the end.
type stderrLog struct {
	log    *slog.Logger
	logged int
	line   []byte
	tail   []byte
}

func (s *stderrLog) Write(p []byte) (int, error) {
	s.tail = append(s.tail, p[max(0, len(p)-stderrKept):]...)
	if extra := len(s.tail) - stderrKept; extra > 0 {
		s.tail = append(s.tail[:0], s.tail[extra:]...)
	}
	for _, b := range p {
		if s.logged >= stderrLogged {
			break
		}
		s.logged++
		if b == '\n' || len(s.line) >= 1024 {
			s.flush()
		}
		if b != '\n' {
			s.line = append(s.line, b)
		}
	}
	return len(p), nil
}

func (s *stderrLog) flush() {
	if len(s.line) > 0 {
		s.log.Info("application", "stderr", strings.ToValidUTF8(string(s.line), "\uFFFD"))
		s.line = s.line[:0]
	}
}

// text is the end of what was written, fit for an error message.
func (s *stderrLog) text() string {
	return strings.TrimSpace(strings.ToValidUTF8(string(s.tail), "\uFFFD"))
}
