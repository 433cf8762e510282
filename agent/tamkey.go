package agent

import (
	"maps"
	"slices"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
)

// sayKey has the answer to a QueryRequest say which of the TAM's keys verified it, where the TAM signed with
// several of the same algorithm, in this message or earlier in the session, because it rotates them
// (teep.ExtensionTAMKey).
func (a *Agent) sayKey(m *received, reply teep.Message) {
	alg := m.signer.Algorithm() // of the selected suite, in which the TAM goes on
	known := slices.IndexFunc(m.opened.Signers, func(s cose.VerifiedSigner) bool { return s.Algorithm == alg })
	if _, ok := m.opened.Message.(*teep.QueryRequest); !ok || known < 0 || !a.rotates(m, alg) {
		return
	}
	option, err := teep.TAMKeyOption(m.opened.Signers[known].Key.Thumbprint())
	if err != nil {
		a.log.Error("the TAM is not told which of its keys is known", "error", err)
		return
	}
	switch r := reply.(type) {
	case *teep.QueryResponse:
		r.Extensions = with(r.Extensions, option)
	case *teep.Error:
		r.Extensions = with(r.Extensions, option)
	}
}

func with(extensions, option map[uint64]teep.RawMessage) map[uint64]teep.RawMessage {
	if extensions == nil {
		return option
	}
	maps.Copy(extensions, option)
	return extensions
}

// rotates tells whether the TAM signed with several keys of that algorithm in this session.
func (a *Agent) rotates(m *received, alg cose.Algorithm) bool {
	several := severalKeys(m.raw, alg)
	a.mu.Lock()
	defer a.mu.Unlock()
	s, ok := a.sessions[m.session]
	if ok {
		s.rotates = s.rotates || several
		return s.rotates
	}
	return several
}

// severalKeys tells whether more than one signature of a message is of that algorithm.
func severalKeys(message []byte, alg cose.Algorithm) bool {
	_, signatures, err := cose.UnverifiedHeaders(message)
	if err != nil {
		return false
	}
	n := 0
	for _, h := range signatures {
		if h.Protected.Algorithm() == alg {
			n++
		}
	}
	return n > 1
}
