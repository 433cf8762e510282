package suit_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/vectors"
	"github.com/go-teep/teep/suit"
)

// vector is a signed envelope that others made.
type vector struct {
	name  string
	data  []byte
	es256 bool // signed with the polymorphic algorithm of older authors
	// mac is under a shared key, which the text of the examples names.
	mac bool
	// unsigned is an envelope that the draft prints before its signature is added.
	unsigned bool
}

func trustAnchor(tb testing.TB) cose.KeySet {
	tb.Helper()
	key, err := cose.ParsePEM(vectors.Read(tb, "keys/trust_anchor_prime256v1.pem"))
	if err != nil {
		tb.Fatal(err)
	}
	set, err := cose.NewKeySet(key.Public())
	if err != nil {
		tb.Fatal(err)
	}
	return set
}

func signedVectors(tb testing.TB) []vector {
	tb.Helper()
	var list []vector
	for _, folder := range []string{"suit", "suit-trust-domains"} {
		for _, name := range vectors.Names(tb, folder, ".suit") {
			list = append(list, vector{name: name, data: vectors.Read(tb, name)})
		}
	}
	for _, name := range []string{"teep/suit_integrated.hex.txt", "teep/suit_uri.hex.txt", "teep/suit_personalization.hex.txt"} {
		list = append(list, vector{name: name, data: vectors.Hex(tb, name)})
	}
	const write = "suit-encryption/aes-kw-write.suit"
	list = append(list, vector{name: write, data: vectors.Read(tb, write), mac: true})
	for _, name := range vectors.Names(tb, "suit-es256", ".txt") {
		for i, data := range hexDumps(tb, name) {
			list = append(list, vector{name: name + "#" + string(rune('0'+i)), data: data, es256: true, unsigned: i == 0})
		}
	}
	return list
}

var hexLine = regexp.MustCompile(`(?m)^[0-9a-f]+$`)

// hexDumps finds the hexadecimal printings of signed envelopes in an example of the draft.
func hexDumps(tb testing.TB, name string) [][]byte {
	tb.Helper()
	var found [][]byte
	text := string(vectors.Read(tb, name))
	for _, block := range strings.Split(text, "~~~") {
		digits := strings.Join(hexLine.FindAllString(block, -1), "")
		data, err := hex.DecodeString(digits)
		if err == nil && bytes.HasPrefix(data, []byte{0xd8, 0x6b}) {
			found = append(found, data)
		}
	}
	if len(found) < 2 {
		tb.Fatalf("%s: found %d envelopes, the draft prints each without and with its signature", name, len(found))
	}
	return found
}

func options(v vector) suit.VerifyOptions {
	if v.es256 {
		return suit.VerifyOptions{Algorithms: []cose.Algorithm{cose.AlgES256}}
	}
	if v.mac {
		keys, err := cose.NewKeySet(cose.NewSymmetricKey(bytes.Repeat([]byte("a"), 32)))
		if err != nil {
			panic(err)
		}
		return suit.VerifyOptions{MACKeys: keys}
	}
	return suit.VerifyOptions{}
}

func verified(tb testing.TB, v vector, keys cose.KeySource) *suit.Authenticated {
	tb.Helper()
	e, err := suit.ParseEnvelope(v.data)
	if err != nil {
		tb.Fatalf("%s: %v", v.name, err)
	}
	a, err := e.Verify(keys, options(v))
	if err != nil {
		tb.Fatalf("%s: %v", v.name, err)
	}
	return a
}

func refuseUnsigned(t *testing.T, v vector, keys cose.KeySource) {
	t.Helper()
	e, err := suit.ParseEnvelope(v.data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Verify(keys, options(v)); !errors.Is(err, suit.ErrNoAuthentication) {
		t.Errorf("an envelope without signature gives %v, want ErrNoAuthentication", err)
	}
	if _, err := e.UnverifiedManifest(); err != nil {
		t.Error(err)
	}
	if got := e.Encode(); !bytes.Equal(got, v.data) {
		t.Errorf("envelope encodes to\n%x, want\n%x", got, v.data)
	}
}

func TestVectorsVerifyAndRebuild(t *testing.T) {
	keys := trustAnchor(t)
	for _, v := range signedVectors(t) {
		t.Run(path.Base(v.name), func(t *testing.T) {
			if v.unsigned {
				refuseUnsigned(t, v, keys)
				return
			}
			a := verified(t, v, keys)
			if got := a.Envelope.Encode(); !bytes.Equal(got, v.data) {
				t.Errorf("envelope encodes to\n%x, want\n%x", got, v.data)
			}
			got, err := a.Manifest.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, a.Envelope.ManifestBytes) {
				t.Errorf("manifest encodes to\n%x, want\n%x", got, a.Envelope.ManifestBytes)
			}
			for _, label := range suit.SectionLabels() {
				s := a.Manifest.Section(label)
				if !s.Available() {
					continue
				}
				seq, err := s.Commands.MarshalCBOR()
				if err != nil || !bytes.Equal(seq, s.Raw) {
					t.Errorf("%v encodes to %x, want %x", label, seq, s.Raw)
				}
			}
		})
	}
}

// Encryption infos of others encode to the same bytes, by themselves and as a parameter.
func TestEncryptionInfosRebuild(t *testing.T) {
	names := vectors.Names(t, "suit-encryption", ".hex")
	n := 0
	for _, name := range names {
		if !strings.Contains(name, "encryption-info") {
			continue
		}
		n++
		info := vectors.Hex(t, name)
		m, err := cose.ParseEncrypt(info)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := m.MarshalCBOR(); err != nil || !bytes.Equal(got, info) {
			t.Errorf("%s encodes to\n%x (%v), want\n%x", name, got, err, info)
		}
		manifest := simpleManifest()
		var p suit.Parameters
		if err := p.SetEncryptionInfo(info); err != nil {
			t.Fatal(err)
		}
		manifest.Install.Commands = append(manifest.Install.Commands, suit.OverrideParameters(p))
		again, err := built(t, suit.Builder{Manifest: manifest}).UnverifiedManifest()
		if err != nil {
			t.Fatal(err)
		}
		last := again.Install.Commands[len(again.Install.Commands)-1]
		if got, ok := last.Parameters.EncryptionInfo(); !ok || !bytes.Equal(got, info) {
			t.Errorf("%s as a parameter is %x", name, got)
		}
	}
	if n != 4 {
		t.Errorf("there are %d encryption infos", n)
	}
}
