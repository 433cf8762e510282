package agent

import (
	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent/trust"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// suitProfiles are the profiles that the agent supports, preferred first: those of the algorithm
// of its report key. Ciphers that authenticate come first.
func (a *Agent) suitProfiles() []teep.SUITProfile {
	switch a.report.Algorithm() {
	case cose.AlgESP256:
		return []teep.SUITProfile{teep.SUITProfileESP256A128GCM(), teep.SUITProfileESP256A128CTR()}
	case cose.AlgEd25519:
		return []teep.SUITProfile{teep.SUITProfileEd25519ChaCha20Poly1305(), teep.SUITProfileEd25519A128CTR()}
	}
	return []teep.SUITProfile{{
		Digest: cose.AlgSHA256, Auth: a.report.Algorithm(), KeyExchange: cose.AlgECDHESA128KW, Encryption: cose.AlgA128GCM,
	}}
}

// protectReport makes a SUIT_Report_Protected: the report, encrypted to the TAM where its key is
// known, and signed with the report key, which is not the key of TEEP messages (TEEP §4.5, §8.2).
func (a *Agent) protectReport(r *suit.Report, tam *trust.TAM, profile teep.SUITProfile) ([]byte, error) {
	if tam.Encryption == nil {
		plain, err := r.Encode()
		if err != nil {
			return nil, err
		}
		return suit.SignReport(a.cfg.Rand, plain, a.report)
	}
	sealed, err := suit.EncryptReport(a.cfg.Rand, r, profile.Encryption, tam.Encryption)
	if err != nil {
		return nil, err
	}
	return suit.SignReport(a.cfg.Rand, sealed, a.report)
}

// protectReports protects those reports that there are.
func (a *Agent) protectReports(reports []*suit.Report, tam *trust.TAM, profile teep.SUITProfile) ([][]byte, error) {
	var out [][]byte
	for _, r := range reports {
		if r == nil {
			continue
		}
		data, err := a.protectReport(r, tam, profile)
		if err != nil {
			return nil, err
		}
		out = append(out, data)
	}
	return out, nil
}
