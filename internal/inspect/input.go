package inspect

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/edn"
)

// Encoding is how the input was written down. The strings are part of the JSON output.
type Encoding string

// The encodings.
const (
	EncodingBinary     Encoding = "binary"
	EncodingHex        Encoding = "hex"
	EncodingBase64     Encoding = "base64"
	EncodingBase64URL  Encoding = "base64url"
	EncodingDiagnostic Encoding = "diagnostic"
	EncodingPEM        Encoding = "pem"
)

// input is decoded input: data, a key from PEM, or neither and findings that say why.
type input struct {
	encoding Encoding
	data     []byte
	key      *cose.Key
	findings []Finding
}

func (in *input) unreadable(format string, args ...any) {
	in.data = nil
	in.findings = append(in.findings, Finding{Severity: SeverityError, Problem: fmt.Sprintf(format, args...)})
}

// readInput finds out how data is written down. Whatever is a structure as it stands is binary;
// other text is taken for hexadecimal, base64 or diagnostic notation, in this order.
func readInput(data []byte) input {
	in := input{encoding: EncodingBinary, data: data}
	text := bytes.TrimSpace(data)
	it, err := parse(data)
	switch {
	case len(text) == 0:
		in.unreadable("the input is empty")
	case err == nil && kindOf(&it) != KindCBOR, !isText(text):
	case bytes.HasPrefix(text, []byte("-----BEGIN ")), cose.PEMLabel(text) != 0:
		in.readPEM(text)
	default:
		in.readText(unfence(string(text)))
	}
	return in
}

// unfence returns the first block of code if text is Markdown that begins with one, as drafts
// have them.
func unfence(text string) string {
	for _, fence := range []string{"~~~", "```"} {
		first, rest, ok := strings.Cut(text, "\n")
		if ok && strings.HasPrefix(first, fence) {
			block, _, _ := strings.Cut(rest, "\n"+fence)
			return block
		}
	}
	return text
}

func isText(data []byte) bool {
	for _, c := range data {
		if c > '~' || c < ' ' && c != '\n' && c != '\r' && c != '\t' {
			return false
		}
	}
	return true
}

func (in *input) readPEM(text []byte) {
	in.encoding = EncodingPEM
	key, err := cose.ParsePEM(text)
	if err != nil {
		in.unreadable("%v", err)
		return
	}
	in.data, in.key = nil, key
}

func (in *input) readText(text string) {
	digits, isHex := hexDigits(text)
	if isHex {
		in.encoding = EncodingHex
		data, err := hex.DecodeString(digits)
		if err != nil {
			in.unreadable("hexadecimal with an odd number of digits (%d): one is missing or too many", len(digits))
			return
		}
		in.data = data
		return
	}
	if data, encoding, ok := fromBase64(text); ok {
		in.encoding, in.data = encoding, data
		return
	}
	if text[0] == '{' && json.Valid([]byte(text)) {
		// It is diagnostic notation too, but no structure has text keys only.
		in.unreadable("this is JSON; TEEP, SUIT and their tokens are CBOR here")
		return
	}
	if data, err := edn.Parse(text); err == nil {
		in.encoding, in.data = EncodingDiagnostic, data
		return
	} else if _, e := parse([]byte(text)); e != nil { // otherwise CBOR whose bytes happen to print
		in.explainText(text, digits, err)
	}
}

// hexDigits returns the digits of hexadecimal text without white space, comments from # to the
// line's end, separators and a leading 0x, and whether there is nothing else in it.
func hexDigits(text string) (string, bool) {
	var b strings.Builder
	pure := true
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimPrefix(strings.TrimSpace(line), "0x")
		for _, c := range line {
			switch {
			case strings.ContainsRune("0123456789abcdefABCDEF", c):
				b.WriteRune(c)
			case !strings.ContainsRune(" \t\r\n:,", c):
				pure = false
			}
		}
	}
	return b.String(), pure && b.Len() > 0
}

func fromBase64(text string) ([]byte, Encoding, bool) {
	joined := strings.Join(strings.Fields(text), "")
	trimmed := strings.TrimRight(joined, "=")
	if data, err := base64.RawStdEncoding.DecodeString(trimmed); err == nil {
		return data, EncodingBase64, true
	}
	if data, err := base64.RawURLEncoding.DecodeString(trimmed); err == nil {
		return data, EncodingBase64URL, true
	}
	return nil, "", false
}

// explainText says why text could not be read. What most of its characters are is what it was
// meant to be.
func (in *input) explainText(text, digits string, err error) {
	var syntax *edn.SyntaxError
	switch {
	case len(digits)*10 >= len(text)*8:
		in.encoding = EncodingHex
		in.unreadable("hexadecimal with %q in it; allowed are digits, white space and comments from # on", strangerTo(text))
	case errors.As(err, &syntax) && strings.ContainsAny(text, "{[("):
		in.encoding = EncodingDiagnostic
		in.unreadable("text that is neither hexadecimal, base64 nor diagnostic notation: line %d, column %d: %s",
			syntax.Line, syntax.Column, syntax.Problem)
	default:
		in.unreadable("text that is neither hexadecimal, base64 nor diagnostic notation")
	}
}

func strangerTo(text string) rune {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		for _, c := range line {
			if !strings.ContainsRune("0123456789abcdefABCDEF \t\r\n:,", c) {
				return c
			}
		}
	}
	return 0
}
