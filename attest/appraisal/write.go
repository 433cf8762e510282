package appraisal

import (
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/go-teep/teep/attest"
)

// YAML writes the collateral as [ParseYAML] reads it, for build tools that describe an agent image
// and factories that describe devices. The result was parsed again: it is complete. References of
// one class stand together.
func (c *Collateral) YAML() ([]byte, error) {
	f := map[string]any{"owner": c.Owner, "expires": c.Expires.UTC().Format(time.RFC3339)}
	if len(c.Endorsements) > 0 {
		list := make([]map[string]any, len(c.Endorsements))
		for i := range c.Endorsements {
			var err error
			if list[i], err = c.Endorsements[i].fields(); err != nil {
				return nil, err
			}
		}
		f["endorsements"] = list
	}
	if len(c.Manufacturers) > 0 {
		list := make([]map[string]any, len(c.Manufacturers))
		for i := range c.Manufacturers {
			var err error
			if list[i], err = c.Manufacturers[i].fields(); err != nil {
				return nil, err
			}
		}
		f["manufacturers"] = list
	}
	classes, err := classFields(c.References)
	if err != nil {
		return nil, err
	}
	if len(classes) > 0 {
		f["reference-values"] = classes
	}
	levels, err := tcbFields(c.TCBLevels)
	if err != nil {
		return nil, err
	}
	if len(levels) > 0 {
		f["tcb-levels"] = levels
	}
	data, err := yaml.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCollateral, err)
	}
	if _, err := ParseYAML(data); err != nil {
		return nil, fmt.Errorf("%w: what was written does not read back: %w", ErrCollateral, err)
	}
	return data, nil
}

func putEnd(f map[string]any, end time.Time) {
	if !end.IsZero() {
		f["expires"] = end.UTC().Format(time.RFC3339)
	}
}

func putClass(f map[string]any, c Class) error {
	oemid, err := attest.FormatOEMID(c.OEMID)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCollateral, err)
	}
	f["oemid"], f["hwmodel"] = oemid, hex.EncodeToString(c.HWModel)
	return nil
}

func (e *Endorsement) fields() (map[string]any, error) {
	f := map[string]any{"ueid": hex.EncodeToString(e.UEID)}
	if e.Class.OEMID != nil {
		if err := putClass(f, e.Class); err != nil {
			return nil, err
		}
	}
	if e.Key == nil || e.Key.Public() == nil {
		return nil, fmt.Errorf("%w: the endorsement of device %x has no public key", ErrCollateral, e.UEID)
	}
	key, err := e.Key.Public().MarshalPEM()
	if err != nil {
		return nil, fmt.Errorf("%w: attestation key of device %x: %w", ErrCollateral, e.UEID, err)
	}
	f["key"] = string(key)
	if e.Revoked != "" {
		f["revoked"] = e.Revoked
	}
	putEnd(f, e.Expires)
	return f, nil
}

func (m *Manufacturer) fields() (map[string]any, error) {
	oemid, err := attest.FormatOEMID(m.OEMID)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCollateral, err)
	}
	var roots, crls strings.Builder
	for _, r := range m.Roots {
		roots.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Raw}))
	}
	for _, l := range m.CRLs {
		crls.Write(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: l.Raw}))
	}
	f := map[string]any{"oemid": oemid, "roots": roots.String()}
	if crls.Len() > 0 {
		f["crls"] = crls.String()
	}
	putEnd(f, m.Expires)
	return f, nil
}

func classFields(refs []Reference) ([]map[string]any, error) {
	var list []map[string]any
	at := map[string]int{}
	for i := range refs {
		r := &refs[i]
		n, ok := at[r.Class.key()]
		if !ok {
			f := map[string]any{"components": []map[string]any(nil)}
			if err := putClass(f, r.Class); err != nil {
				return nil, err
			}
			n = len(list)
			at[r.Class.key()], list = n, append(list, f)
		}
		list[n]["components"] = append(list[n]["components"].([]map[string]any), r.fields())
	}
	return list, nil
}

func (r *Reference) fields() map[string]any {
	f := map[string]any{"name": r.Name, "digest": Digest{r.Algorithm, r.Digest}.String(), "status": r.Status.String()}
	for key, value := range map[string]string{"version": r.Version, "why": r.Why} {
		if value != "" {
			f[key] = value
		}
	}
	if len(r.AcceptedWeaknesses) > 0 {
		f["accepted-weaknesses"] = r.AcceptedWeaknesses
	}
	if r.RequireDebugDisabled {
		f["debug"] = "disabled"
	}
	putEnd(f, r.Expires)
	return f
}
