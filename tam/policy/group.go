package policy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-teep/teep/suit"
)

// Mode says what devices should have of a manifest.
type Mode string

// The modes.
const (
	// ModeAvailable: devices get it when they ask for it, keep it updated, and lose it when
	// they no longer need it. It is the mode of every manifest of which nothing is said.
	ModeAvailable Mode = "available"
	// ModeRequired: devices get it without asking.
	ModeRequired Mode = "required"
	// ModeForbidden: devices do not get it, and lose it when they have it.
	ModeForbidden Mode = "forbidden"
)

// Valid tells whether m is one of the modes.
func (m Mode) Valid() bool {
	return m == ModeAvailable || m == ModeRequired || m == ModeForbidden
}

// rank orders the modes within one priority.
func (m Mode) rank() int {
	switch m {
	case ModeForbidden:
		return 2
	case ModeRequired:
		return 1
	}
	return 0
}

// Limits of records.
const (
	MaxName       = 64
	MaxGroups     = 256
	MaxComponents = 256
	MaxManifests  = 64 // of a domain: what one Update carries together
	MaxReason     = 500
)

// Group is a set of devices and what they should have.
type Group struct {
	Name  string `json:"name,omitempty"`
	Match string `json:"match"` // a condition over [Facts]
	// Priority decides between groups that a device is in: the highest counts.
	Priority   int         `json:"priority"`
	Components []Component `json:"components"`
}

// Component is what a group says about one manifest, or about all manifests of one domain.
type Component struct {
	Manifest string `json:"manifest,omitempty"` // component identifier as text; or
	Domain   string `json:"domain,omitempty"`   // name of a security domain
	Mode     Mode   `json:"mode"`
	// Sequence holds devices at one version; 0 is the newest that is offered to them.
	Sequence uint64 `json:"sequence,string,omitempty"`
}

// Check brings the group into its canonical form. The error is [ErrInvalid].
func (g *Group) Check(c *Compiler) error {
	if err := checkName("group", g.Name); err != nil {
		return err
	}
	if _, err := c.Compile(g.Match); err != nil {
		return err
	}
	if len(g.Components) > MaxComponents {
		return invalid("the group speaks of %d components: at most %d are allowed; make several groups of it", len(g.Components), MaxComponents)
	}
	seen := make(map[string]bool)
	for i := range g.Components {
		x := &g.Components[i]
		if !x.Mode.Valid() {
			return invalid("component %d: %q is not a mode: write available, required or forbidden", i, x.Mode)
		}
		if err := checkTarget(&x.Manifest, x.Domain); err != nil {
			return err
		}
		if x.Sequence != 0 && (x.Mode == ModeForbidden || x.Domain != "") {
			return invalid("component %d: sequence says which version of one manifest devices should have: leave it out", i)
		}
		key := x.Manifest + "\x00" + x.Domain
		if seen[key] {
			return invalid("component %d: the group speaks twice of %s%s: say it once", i, x.Manifest, x.Domain)
		}
		seen[key] = true
	}
	return nil
}

// Describe says what the group is, for the audit log.
func (g *Group) Describe() string {
	parts := make([]string, len(g.Components))
	for i, x := range g.Components {
		parts[i] = x.describe()
	}
	return fmt.Sprintf("devices with %s, priority %d: %s", g.Match, g.Priority, strings.Join(parts, ", "))
}

func (x *Component) describe() string {
	what := x.Manifest
	if x.Domain != "" {
		what = "domain " + x.Domain
	}
	what = string(x.Mode) + " " + what
	if x.Sequence != 0 {
		what += " #" + strconv.FormatUint(x.Sequence, 10)
	}
	return what
}

// checkTarget makes sure that exactly one of a manifest and a domain is named.
func checkTarget(manifest *string, domain string) error {
	if (*manifest == "") == (domain == "") {
		return invalid("name either a manifest or a domain")
	}
	if domain != "" {
		return checkName("domain", domain)
	}
	return canonical(manifest)
}

// canonical rewrites a component identifier in the one way that it is compared by.
func canonical(s *string) error {
	id, err := suit.ParseComponentID(*s)
	if err != nil || len(id) == 0 {
		return invalid("%q is not a component identifier: write its segments as 'text' or h'hex', joined by slashes", *s)
	}
	*s = id.String()
	return nil
}

// checkName keeps names fit for paths, logs and people.
func checkName(what, s string) error {
	ok := s != "" && len(s) <= MaxName && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) || strings.ContainsRune("-_.", r))
	})
	if !ok || s == "." || s == ".." {
		return invalid("%q cannot be the name of a %s: use 1 to %d of the characters a-z A-Z 0-9 - _ .", s, what, MaxName)
	}
	return nil
}

// Domain is a security domain: manifests of one publisher that devices get together, in one Update, and
// that are removed in one step.
type Domain struct {
	Name string `json:"name,omitempty"`
	// Owner is the publisher whose prefixes cover every manifest.
	Owner     string   `json:"owner"`
	Manifests []string `json:"manifests"`
}

// Check brings the domain into its canonical form. The error is [ErrInvalid].
func (d *Domain) Check() error {
	if err := checkName("domain", d.Name); err != nil {
		return err
	}
	if len(d.Manifests) == 0 || len(d.Manifests) > MaxManifests {
		return invalid("a domain has 1 to %d manifests, not %d", MaxManifests, len(d.Manifests))
	}
	seen := make(map[string]bool)
	for i := range d.Manifests {
		if err := canonical(&d.Manifests[i]); err != nil {
			return err
		}
		if seen[d.Manifests[i]] {
			return invalid("%s is listed twice", d.Manifests[i])
		}
		seen[d.Manifests[i]] = true
	}
	return nil
}

// Describe says what the domain is, for the audit log.
func (d *Domain) Describe() string {
	return fmt.Sprintf("of %s: %s", d.Owner, strings.Join(d.Manifests, ", "))
}

// Removal takes something off devices at once: whatever groups, assignments, rollouts, maintenance
// windows and earlier failures say.
type Removal struct {
	Name     string `json:"name,omitempty"`
	Manifest string `json:"manifest,omitempty"` // component identifier as text; or
	Domain   string `json:"domain,omitempty"`   // name of a security domain
	// Sequence limits it to versions up to this one, so that newer ones may replace them; 0: all.
	Sequence uint64 `json:"sequence,string,omitempty"`
	// Match limits it to some devices; empty: all.
	Match  string `json:"match,omitempty"`
	Reason string `json:"reason"`
	// By and At are set when it is saved.
	By string    `json:"by,omitempty"`
	At time.Time `json:"at,omitzero"`
}

// Check brings the removal into its canonical form. The error is [ErrInvalid].
func (r *Removal) Check(c *Compiler) error {
	if err := checkName("removal", r.Name); err != nil {
		return err
	}
	if err := checkTarget(&r.Manifest, r.Domain); err != nil {
		return err
	}
	if r.Sequence != 0 && r.Domain != "" {
		return invalid("a domain is removed whole: leave sequence out")
	}
	if r.Reason == "" || len(r.Reason) > MaxReason {
		return invalid("give a reason of 1 to %d bytes", MaxReason)
	}
	if r.Match == "" {
		return nil
	}
	_, err := c.Compile(r.Match)
	return err
}

// Describe says what is removed, for the audit log.
func (r *Removal) Describe() string {
	what := r.Manifest
	if r.Domain != "" {
		what = "domain " + r.Domain
	}
	if r.Sequence != 0 {
		what += fmt.Sprintf(" up to sequence number %d", r.Sequence)
	}
	if r.Match != "" {
		what += " from devices with " + r.Match
	}
	return what + ": " + r.Reason
}

// Admission is a rule that accepts new devices.
type Admission struct {
	Name string `json:"name,omitempty"`
	// Match is a condition over [Facts]. Labels and inventory of a new device are empty.
	Match string `json:"match"`
	// Labels are written on the devices that it accepts.
	Labels map[string]string `json:"labels,omitempty"`
}

// Check checks the rule. The error is [ErrInvalid].
func (a *Admission) Check(c *Compiler) error {
	if err := checkName("rule", a.Name); err != nil {
		return err
	}
	if err := CheckLabels(a.Labels); err != nil {
		return err
	}
	_, err := c.Compile(a.Match)
	return err
}

// Describe says whom the rule accepts and as what, for the audit log: labels decide on groups.
func (a *Admission) Describe() string {
	text := "accepts devices with " + a.Match
	var labels []string
	for _, name := range slices.Sorted(maps.Keys(a.Labels)) {
		labels = append(labels, fmt.Sprintf("%s=%q", name, a.Labels[name]))
	}
	if labels != nil {
		text += ", with labels " + strings.Join(labels, ", ")
	}
	return text
}

// Limits of labels.
const (
	MaxLabels     = 32
	MaxLabelValue = 128
)

// CheckLabels refuses labels that conditions and people could not tell apart. The error is [ErrInvalid].
func CheckLabels(labels map[string]string) error {
	if len(labels) > MaxLabels {
		return invalid("%d labels: a device has at most %d", len(labels), MaxLabels)
	}
	for name, value := range labels {
		if err := checkName("label", name); err != nil {
			return err
		}
		if len(value) > MaxLabelValue || strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsGraphic(r) || r == unicode.ReplacementChar }) {
			return invalid("label %s: the value is longer than %d bytes or has characters that are not visible", name, MaxLabelValue)
		}
	}
	return nil
}
