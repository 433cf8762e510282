package trust

import (
	"github.com/go-teep/teep/suit/processor"
)

// Authority is what the signers of the set may do, in the terms of the SUIT processor (SUIT §9).
func (s *Set) Authority() (processor.Authority, error) {
	var entries []processor.Signer
	for i := range s.Signers {
		rights := s.Signers[i].rights()
		for _, key := range s.Signers[i].Keys {
			entries = append(entries, processor.Signer{Key: key, Rights: rights})
		}
	}
	return processor.NewSigners(entries...)
}

func (s *Signer) rights() processor.Rights {
	var r processor.Rights
	for _, prefix := range s.Components {
		r.Components = append(r.Components, processor.ComponentRights{
			Prefix: prefix, Commands: s.Commands, Parameters: s.Parameters,
		})
	}
	return r
}
