package eat

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/cose"
)

// Identity is what the TEE says about itself and the device.
type Identity struct {
	// UEID is the device's Universal Entity ID, 7 to 33 bytes.
	UEID []byte
	// OEMID is the encoded oemid claim; see attest.ParseOEMID.
	OEMID []byte
	// HWModel is the hwmodel claim, 1 to 32 bytes, and HWVersion the text of hwversion.
	HWModel   []byte
	HWVersion string
	// AgentName and AgentVersion name the agent's measured component. Reference values are found
	// by the name; the version is for people.
	AgentName, AgentVersion string
	// Measurement is the SHA-256 digest of the agent's own code as the TEE measured it.
	Measurement []byte
	// Manifests are the SUIT manifests that installed the agent and what it depends on. An agent
	// that none installed is named by "#name/version" and its measurement, for the profile
	// requires the claim.
	Manifests []ManifestReference
	// Debug is the dbgstat claim.
	Debug DebugStatus
	// Weaknesses are protections that the TEE lacks, in words.
	Weaknesses []string
}

// IdentityClaims returns what is the same in all Evidence of a device. It checks that the identity
// can be attested at all.
func IdentityClaims(id Identity) (*Claims, error) {
	digest, err := appraisal.NewDigest(cose.AlgSHA256, bytes.Clone(id.Measurement))
	if err != nil {
		return nil, fmt.Errorf("eat: the agent's measurement: %w", err)
	}
	if id.AgentName == "" || id.HWVersion == "" {
		return nil, errors.New("eat: the identity has no agent name or no hardware version")
	}
	oemid, err := attest.CanonicalOEMID(id.OEMID)
	if err != nil {
		return nil, fmt.Errorf("eat: the identity's oemid: %w", err)
	}
	mc := &MeasuredComponent{Name: id.AgentName, Digest: digest}
	if id.AgentVersion != "" {
		mc.Version = &Version{Text: id.AgentVersion}
	}
	refs := slices.Clone(id.Manifests)
	if len(refs) == 0 {
		refs = []ManifestReference{{URI: "#" + id.AgentName + "/" + id.AgentVersion, Digest: digest}}
	}
	c := &Claims{
		UEID: bytes.Clone(id.UEID), OEMID: oemid, HWModel: bytes.Clone(id.HWModel),
		HWVersion: &Version{Text: id.HWVersion}, Debug: id.Debug, Profile: Profile,
		Measurements: []Measurement{{Component: mc}}, Weaknesses: id.Weaknesses,
	}
	for i := range refs {
		c.Manifests = append(c.Manifests, Manifest{Reference: &refs[i]})
	}
	probe := *c
	probe.Confirmation = &Confirmation{KeyID: digest.Value} // any will do
	if err := probe.CheckProfile(); err != nil {
		return nil, fmt.Errorf("eat: the identity is incomplete: %w", err)
	}
	_, err = probe.Encode()
	return c, err
}

// For returns the claims of one piece of Evidence: those of the device and those that the request
// binds to them.
func (c *Claims) For(r attest.Request, now time.Time) (*Claims, error) {
	if r.AgentKey == nil || r.AgentKey.Public() == nil {
		return nil, errors.New("eat: Evidence needs the public key of the agent")
	}
	one := *c
	// A verifier that has never met this agent learns its key from here; by the kid alone it could
	// not check the message that brought the Evidence.
	one.Confirmation = Confirm(r.AgentKey)
	one.Confirmation.Key = r.AgentKey.Public()
	one.IssuedAt, one.EncryptionKey = now, r.EncryptionKey
	if len(r.Nonce) > 0 {
		one.Nonce = r.Nonce
	}
	return &one, addComponents(&one, r.Components)
}

// addComponents describes what is installed: a submodule for each component, and all manifests
// together in the manifests claim, where a relying party that knows no submodules finds them.
func addComponents(c *Claims, components []attest.Component) error {
	if len(components) == 0 {
		return nil
	}
	c.Manifests = append([]Manifest(nil), c.Manifests...)
	c.Submods = make(map[string]Submodule, len(components))
	for _, comp := range components {
		label, err := ComponentLabel(comp.ID)
		if err != nil {
			return err
		}
		if _, twice := c.Submods[label]; twice {
			return fmt.Errorf("eat: component %x is listed twice", comp.ID)
		}
		sub := &Claims{}
		if comp.ManifestURI != "" {
			sub.SWName = comp.ManifestURI
		} else {
			sub.SWName = "#" // a manifest that came inside an Update has no URI of its own
		}
		sub.SWVersion = &Version{Text: fmt.Sprint(comp.SequenceNumber), Scheme: SchemeDecimal}
		digest, err := appraisal.NewDigest(cose.AlgSHA256, comp.ManifestDigest)
		if err != nil {
			return fmt.Errorf("eat: manifest digest of component %x: %w", comp.ID, err)
		}
		m := Manifest{Reference: &ManifestReference{URI: comp.ManifestURI, Digest: digest}}
		sub.Manifests = []Manifest{m}
		c.Manifests = append(c.Manifests, m)
		c.Submods[label] = Submodule{Claims: sub}
	}
	return nil
}

// Components lists the installed components that the submodules describe, in the order of their
// labels. A submodule with a component label that describes none is [attest.ErrFormat].
func (c *Claims) Components() ([]attest.Component, error) {
	var list []attest.Component
	for _, label := range sortedLabels(c.Submods) {
		id, ok := componentID(label)
		if !ok {
			continue
		}
		sub := c.Submods[label].Claims
		if sub == nil || sub.SWVersion == nil || len(sub.Manifests) != 1 || sub.Manifests[0].Reference == nil {
			return nil, malformed(label, errors.New("a component's submodule has sw-name, sw-version and one SUIT_Reference"))
		}
		ref := sub.Manifests[0].Reference
		comp := attest.Component{ID: id, ManifestURI: ref.URI, ManifestDigest: ref.Digest.Value}
		if err := parseSequence(sub.SWVersion.Text, &comp.SequenceNumber); err != nil {
			return nil, malformed(label, err)
		}
		list = append(list, comp)
	}
	return list, nil
}

func parseSequence(text string, n *uint64) error {
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return fmt.Errorf("sw-version %.32q is not a sequence number", text)
	}
	*n = v
	return nil
}

func sortedLabels(submods map[string]Submodule) []string {
	return slices.Sorted(maps.Keys(submods))
}
