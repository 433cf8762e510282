package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Person is who acts.
type Person struct {
	// ID identifies what they showed, a token or an account, for good.
	ID   string `json:"id"`
	Name string `json:"name"`
	// Subjects name the person behind it, as one organization knows them: the owner of a token, the
	// subject and the verified e-mail address at an identity provider, the names in a certificate. Empty:
	// nobody knows who it is.
	Subjects []string `json:"subjects,omitempty"`
}

// Errors of an approval.
var (
	// ErrSamePerson says that who proposed a rollout cannot approve it.
	ErrSamePerson = errors.New("policy: a rollout is approved by another person than proposed it")
	// ErrUnknownPerson says that nobody can tell whether two people are two.
	ErrUnknownPerson = errors.New("policy: it is not known whose credentials these are")
)

// MayPropose refuses a rollout that a second person is to approve where nobody could tell that they are another: it
// would wait for ever.
func (p Person) MayPropose(r *Rollout) error {
	if r.Approval && len(p.Subjects) == 0 {
		return fmt.Errorf("%w: somebody else has to approve this: propose it with a token that has an owner ('teep token create --owner'), or with an account of the identity provider", ErrUnknownPerson)
	}
	return nil
}

// secondTo refuses an approval by p of what first proposed, unless they are known to be two people. One
// person may have several tokens, and an account beside them.
func (p Person) secondTo(first Person) error {
	switch {
	case p.ID == first.ID || slices.ContainsFunc(p.names(), func(n string) bool { return slices.Contains(first.names(), n) }):
		return fmt.Errorf("%w: ask somebody else than %s", ErrSamePerson, first.Name)
	case len(first.Subjects) == 0:
		return fmt.Errorf("%w: %s, who proposed it, used a token without an owner: abort it, and propose it with a token that has one ('teep token create --owner'), or with an account of the identity provider",
			ErrUnknownPerson, first.Name)
	case len(p.Subjects) == 0:
		return fmt.Errorf("%w: approve with a token that has an owner ('teep token create --owner'), or with an account of the identity provider", ErrUnknownPerson)
	}
	return nil
}

// names are what two people who are one may have in common, in a form to compare.
func (p Person) names() []string {
	all := make([]string, 0, len(p.Subjects)+1)
	for _, s := range append(slices.Clone(p.Subjects), p.Name) {
		if s = strings.ToLower(strings.TrimSpace(s)); s != "" {
			all = append(all, s)
		}
	}
	return all
}
