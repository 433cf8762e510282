package edn

import (
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Additional information of the three floating-point widths (RFC 8949 §3.3).
const (
	half   = 25
	single = 26
	double = 27
)

// halfToFloat widens IEEE 754 binary16; the value is exact, the payload of a NaN is lost.
func halfToFloat(h uint16) float64 {
	sign, exponent, mantissa := 1.0, int(h>>10&0x1f), float64(h&0x3ff)
	if h>>15 != 0 {
		sign = -1
	}
	switch exponent {
	case 0:
		return math.Copysign(math.Ldexp(mantissa, -24), sign)
	case 31:
		if mantissa != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	}
	return sign * math.Ldexp(1024+mantissa, exponent-25)
}

// floatToHalf narrows f if that loses nothing.
func floatToHalf(f float64) (uint16, bool) {
	var sign uint16
	if math.Signbit(f) {
		sign = 1 << 15
	}
	switch a := math.Abs(f); {
	case math.IsNaN(f):
		return 0x7e00, true
	case math.IsInf(f, 0):
		return sign | 0x7c00, true
	case a < 0x1p-14: // zero and subnormal numbers
		m := a * 0x1p24
		return sign | uint16(m), m == math.Trunc(m)
	case a > 65504:
		return 0, false
	default:
		fraction, exponent := math.Frexp(a) // a = fraction × 2^exponent, fraction in [½, 1)
		m := fraction * 2048
		return sign | uint16(exponent+14)<<10 | uint16(m)&0x3ff, m == math.Trunc(m)
	}
}

// floatBits returns f in the given width, if that loses nothing.
func floatBits(f float64, width byte) (uint64, bool) {
	switch width {
	case half:
		h, ok := floatToHalf(f)
		return uint64(h), ok
	case single:
		s := float32(f)
		return uint64(math.Float32bits(s)), float64(s) == f || math.IsNaN(f)
	}
	return math.Float64bits(f), true
}

// shortestFloat returns the preferred encoding of f (RFC 8949 §4.1).
func shortestFloat(f float64) (bits uint64, width byte) {
	for width = half; width < double; width++ {
		if bits, ok := floatBits(f, width); ok {
			return bits, width
		}
	}
	return math.Float64bits(f), double
}

func floatValue(bits uint64, width byte) float64 {
	switch width {
	case half:
		return halfToFloat(uint16(bits))
	case single:
		return float64(math.Float32frombits(uint32(bits)))
	}
	return math.Float64frombits(bits)
}

// formatFloat writes a number so that it reads back to the same width and bits.
func formatFloat(bits uint64, width byte) string {
	f := floatValue(bits, width)
	best, bestWidth := shortestFloat(f)
	if math.IsNaN(f) && (width != half || bits != best) {
		return fmt.Sprintf("float'%0*x'", 2<<(width-24), bits)
	}
	text := strconv.FormatFloat(f, 'g', -1, 64)
	switch {
	case math.IsInf(f, 1):
		text = "Infinity"
	case math.IsInf(f, -1):
		text = "-Infinity"
	case !math.IsNaN(f) && !strings.ContainsAny(text, ".e"):
		text += ".0"
	}
	if width != bestWidth {
		text += "_" + strconv.Itoa(int(width)-24)
	}
	return text
}

// rawFloat decodes the content of float'…': the bits themselves.
func rawFloat(digits string) (bits uint64, width byte, err error) {
	b, err := hex.DecodeString(digits)
	if err != nil || (len(b) != 2 && len(b) != 4 && len(b) != 8) {
		return 0, 0, fmt.Errorf("float'…' takes 4, 8 or 16 hexadecimal digits")
	}
	for _, c := range b {
		bits = bits<<8 | uint64(c)
	}
	return bits, map[int]byte{2: half, 4: single, 8: double}[len(b)], nil
}
