package teep

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"github.com/go-teep/teep/cose"
)

func TestChoose(t *testing.T) {
	esp, ed, p384 := CipherSuiteSign1ESP256(), CipherSuiteSign1Ed25519(), CipherSuiteSign1ESP384()
	if s, err := ChooseCipherSuite([]CipherSuite{esp, ed}, []CipherSuite{p384, ed, esp}); err != nil || !s.Equal(ed) {
		t.Errorf("cipher suite %v, %v: the chooser's preference decides", s, err)
	}
	if v, err := ChooseVersion([]Version{0, 2, 3}, []Version{2, 1, 0}); err != nil || v != 2 {
		t.Errorf("version %v, %v", v, err)
	}
	if v, err := ChooseVersion(nil, []Version{0, 1}); err != nil || v != 0 {
		t.Errorf("absent versions: %v, %v, want 0", v, err)
	}
	if f, err := ChooseFreshness(nil, []FreshnessMechanism{FreshnessTimestamp, FreshnessNonce}); err != nil || f != FreshnessNonce {
		t.Errorf("absent freshness: %v, %v, want the nonce", f, err)
	}
	if f, err := ChooseFreshness([]FreshnessMechanism{0, 1}, []FreshnessMechanism{1, 0}); err != nil || f != FreshnessTimestamp {
		t.Errorf("freshness %v, %v", f, err)
	}
	if p, err := ChooseSUITProfile(MandatorySUITProfiles(), []SUITProfile{SUITProfileESP256A128GCM()}); err != nil || p != SUITProfileESP256A128GCM() {
		t.Errorf("profile %v, %v", p, err)
	}
}

// Each failure of negotiation becomes an Error that carries what it must, and can be sent.
func TestChooseFailures(t *testing.T) {
	cases := map[ErrorCode]func() error{
		ErrUnsupportedCipherSuites: func() error {
			_, err := ChooseCipherSuite([]CipherSuite{CipherSuiteSign1(cose.AlgES256)}, MandatoryCipherSuites())
			return err
		},
		ErrUnsupportedMsgVersion: func() error {
			_, err := ChooseVersion([]Version{7}, []Version{0})
			return err
		},
		ErrUnsupportedFreshnessMechanisms: func() error {
			_, err := ChooseFreshness([]FreshnessMechanism{FreshnessTimestamp}, []FreshnessMechanism{FreshnessNonce})
			return err
		},
		ErrUnsupportedSUITReport: func() error {
			_, err := ChooseSUITProfile([]SUITProfile{SUITProfileHMACA128CTR()}, MandatorySUITProfiles())
			return err
		},
	}
	for code, choose := range cases {
		err := choose()
		if !errors.Is(err, &ProtocolError{Code: code}) {
			t.Errorf("%v, want %v", err, code)
			continue
		}
		data, err := Encode(AsErrorMessage(fmt.Errorf("while choosing: %w", err)))
		if err != nil {
			t.Errorf("%v: %v", code, err)
			continue
		}
		m, err := Decode(data)
		if err != nil {
			t.Errorf("%v: %v", code, err)
			continue
		}
		if e := m.(*Error); e.Code != code || len(e.CipherSuites)+len(e.Versions)+len(e.FreshnessMechanisms)+len(e.SUITProfiles) == 0 {
			t.Errorf("%v: %+v carries nothing", code, e)
		}
	}
}

func TestChooseKeepsItsInput(t *testing.T) {
	supported := MandatoryCipherSuites()
	_, err := ChooseCipherSuite(nil, supported)
	AsErrorMessage(err).CipherSuites[0] = nil
	if supported[0] == nil {
		t.Error("the error shares memory with the configuration")
	}
}

func TestAsErrorMessage(t *testing.T) {
	if AsErrorMessage(nil) != nil || AsUpdate(nil) != nil {
		t.Error("nil is not nil")
	}
	secret := errors.New("open /sealed/key: permission denied")
	for _, err := range []error{secret, fmt.Errorf("x: %w", context.Canceled), context.DeadlineExceeded} {
		m := AsErrorMessage(err)
		if m.Code != ErrTemporaryError || strings.Contains(m.Message, "sealed") {
			t.Errorf("%v became %+v", err, m)
		}
	}
	pe := NewProtocolError(ErrBadCertificate, "chain\nends "+strings.Repeat("nowhere ", 30), secret)
	m := AsErrorMessage(pe)
	if m.Code != ErrBadCertificate || strings.Contains(m.Message, "sealed") || len(m.Message) > MaxText {
		t.Errorf("%+v", m)
	}
	if !strings.Contains(pe.Error(), "sealed") || !errors.Is(pe, secret) {
		t.Error("the cause is missing on this side")
	}
	if u := AsUpdate(pe); u.ErrorCode != ErrBadCertificate || u.ErrorMessage != m.Message {
		t.Errorf("%+v", u)
	}
	if back := AsProtocolError(m); back.Code != pe.Code || back.Msg != m.Message {
		t.Errorf("%+v", back)
	}
	if AsProtocolError(&Update{}) != nil || AsProtocolError(&Success{}) != nil || AsProtocolError(AsUpdate(pe)) == nil {
		t.Error("AsProtocolError")
	}
	if errors.Is(pe, &ProtocolError{Code: ErrTemporaryError}) {
		t.Error("another code matches")
	}
}

func TestNetUnicode(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		"disk-full":              "disk-full",
		"e\u0301":                "é",
		"line\r\nbreak\ttab\x00": "line break tab",
		"\ufeffmark":             "mark",
		"bad\xff":                "bad\ufffd",
		"\u001b[31m":             "[31m",
		strings.Repeat("x", 128): strings.Repeat("x", 128),
		strings.Repeat("x", 129): strings.Repeat("x", 125) + "…",
		strings.Repeat("é", 70):  strings.Repeat("é", 62) + "…",
	} {
		if got := NetUnicode(in); got != want {
			t.Errorf("NetUnicode(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestNetUnicodeProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NetUnicode(rapid.String().Draw(t, "s"))
		if len(s) > MaxText || !utf8.ValidString(s) || !norm.NFC.IsNormalString(s) || checkNetUnicode(s, true) != "" {
			t.Fatalf("%q is not Net-Unicode of at most %d bytes", s, MaxText)
		}
		if again := NetUnicode(s); again != s {
			t.Fatalf("%q is not stable: %q", s, again)
		}
	})
}

func TestCheckQueryResponse(t *testing.T) {
	q := &QueryRequest{Token: token8(), Versions: []Version{0, 1}, DataItems: DataAttestation | DataTrustedComponents | DataExtensions}
	full := func() *QueryResponse {
		return &QueryResponse{
			Token: token8(), AttestationPayload: []byte{0xa0}, TrustedComponents: []RawMessage{}, ExtensionList: []ExtensionInfo{},
		}
	}
	if err := CheckQueryResponse(q, full()); err != nil {
		t.Error(err)
	}
	for want, edit := range map[string]func(*QueryResponse){
		"token is missing":                func(r *QueryResponse) { r.Token = nil },
		"token is not that":               func(r *QueryResponse) { r.Token = []byte("another8") },
		"attestation-payload is missing":  func(r *QueryResponse) { r.AttestationPayload = nil },
		"tc-list is missing":              func(r *QueryResponse) { r.TrustedComponents = nil },
		"ext-list is missing":             func(r *QueryResponse) { r.ExtensionList = nil },
		"selected-version 2 was not":      func(r *QueryResponse) { r.SelectedVersion = ptr(Version(2)) },
		"selected-version 9000 was not o": func(r *QueryResponse) { r.SelectedVersion = ptr(Version(9000)) },
	} {
		r := full()
		edit(r)
		err := CheckQueryResponse(q, r)
		code := ErrPermanentError
		if strings.HasPrefix(want, "selected-version") {
			code = ErrUnsupportedMsgVersion
		}
		if err == nil || !strings.Contains(err.Error(), want) || AsUpdate(err).ErrorCode != code {
			t.Errorf("%v, want %q", err, want)
		}
	}
	r := full()
	r.SelectedVersion = ptr(Version(1))
	if err := CheckQueryResponse(&QueryRequest{Token: token8()}, r); err == nil {
		t.Error("version 1 accepted where only 0 was offered, by absence")
	}
	if err := CheckQueryResponse(&QueryRequest{}, &QueryResponse{Token: token8()}); err == nil {
		t.Error("a token in the answer to a request without one")
	}
	if err := CheckQueryResponse(&QueryRequest{}, &QueryResponse{}); err != nil {
		t.Error(err)
	}
}

func TestCheckUpdateResponse(t *testing.T) {
	u := &Update{Token: token8()}
	for _, m := range []Message{&Success{Token: token8()}, &Error{Token: token8(), Code: 1}} {
		if err := CheckUpdateResponse(u, m); err != nil {
			t.Error(err)
		}
	}
	for _, m := range []Message{&Success{}, &Success{Token: []byte("another8")}, &Error{Code: 1}, &QueryResponse{Token: token8()}} {
		if err := CheckUpdateResponse(u, m); err == nil {
			t.Errorf("%+v answers an update with a token", m)
		}
	}
	if err := CheckUpdateResponse(&Update{}, &Success{Token: token8()}); err == nil {
		t.Error("a token out of nowhere")
	}
}

func TestIsEATFormat(t *testing.T) {
	for format, want := range map[string]bool{
		"": true, EATMediaType: true,
		`application/eat+cwt; eat_profile="urn:ietf:rfc:rfcXXXX"`: true,
		`Application/EAT+CWT;eat_profile=urn:ietf:rfc:rfcXXXX`:    true,
		`application/eat+cwt`: false,
		`application/eat+cwt; eat_profile="urn:ietf:rfc:rfc9999"`: false,
		`application/eat+jwt; eat_profile=urn:ietf:rfc:rfcXXXX`:   false,
		`application/cmw+cbor`: false,
		`text/plain; x="application/eat+cwt; eat_profile=urn:ietf:rfc:rf"`: false,
	} {
		if IsEATFormat(format) != want {
			t.Errorf("IsEATFormat(%q) = %v", format, !want)
		}
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		DiagnosticName(TypeUpdate):                                                         "",
		DiagnosticName(TypeUpdate, 0):                                                      "type",
		DiagnosticName(TypeUpdate, 1):                                                      "options",
		DiagnosticName(TypeUpdate, 2):                                                      "",
		DiagnosticName(TypeUpdate, 1, 20):                                                  "token",
		DiagnosticName(TypeUpdate, 1, 5):                                                   "",
		DiagnosticName(TypeQueryResponse, 1, 14, 0, 16):                                    "component-id",
		DiagnosticName(TypeQueryResponse, 1, 14, 0, 20):                                    "",
		DiagnosticName(TypeQueryResponse, 1, 8, 0, 3):                                      "",
		DiagnosticName(TypeQueryRequest, 2):                                                "supported-teep-cipher-suites",
		DiagnosticName(TypeQueryRequest, 3):                                                "supported-suit-cose-profiles",
		DiagnosticName(TypeQueryRequest, 4):                                                "data-item-requested",
		DiagnosticName(TypeError, 2):                                                       "err-code",
		DiagnosticName(TypeError, 1<<40):                                                   "",
		DiagnosticValue(TypeError, 6, 0):                                                   "error",
		DiagnosticValue(TypeError, 4, 0):                                                   "",
		DiagnosticValue(TypeError, 10, 2):                                                  "ERR_TEMPORARY_ERROR",
		DiagnosticValue(TypeUpdate, 99, 1, 23):                                             "err-code 99",
		DiagnosticValue(TypeQueryRequest, 3, 4):                                            "attestation | trusted-components",
		DiagnosticValue(TypeQueryRequest, 0, 4):                                            "nothing",
		DiagnosticValue(TypeQueryRequest, 24, 4):                                           "suit-reports | 0x10",
		DiagnosticValue(TypeQueryRequest, 1, 1, 21):                                        "",
		DiagnosticValue(TypeQueryRequest, 1, 1, 21, 0):                                     "FRESHNESS_TIMESTAMP",
		MessageType(9).String():                                                            "teep-type 9",
		FreshnessMechanism(5).String():                                                     "freshness-mechanism 5",
		SUITProfile{Digest: -16}.String():                                                  "[-16, 0, 0, 0]",
		SUITProfileHSSLMSA256CTR().String():                                                "suit-sha256-hsslms-a256kw-a256ctr",
		CipherSuite{{COSEType: 98, Algorithm: -7}, {COSEType: 18, Algorithm: -9}}.String(): "[[98, -7], [18, -9]]",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	seen := make(map[string]bool)
	for label := range uint64(30) {
		if name := LabelName(label); name != "" {
			if seen[name] {
				t.Errorf("two labels are called %s", name)
			}
			seen[name] = true
		}
	}
	if len(seen) != 22 {
		t.Errorf("%d labels have names, the text has 22", len(seen))
	}
	for code := range ErrorCode(24) {
		known := code >= 1 && code <= 10 || code == 17
		if strings.HasPrefix(code.String(), "ERR_") != known {
			t.Errorf("code %d is called %s", uint64(code), code)
		}
	}
}
