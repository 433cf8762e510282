package tam_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/blobfs"
	"github.com/go-teep/teep/tam/sqlite"
)

// keyService has a key that it does not give away: a cloud's key management, a token, a machine of its own.
type keyService struct {
	key  crypto.Signer
	used int
}

func (s *keyService) Public() crypto.PublicKey { return s.key.Public() }

func (s *keyService) Sign(rand io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	s.used++
	return s.key.Sign(rand, digest, o)
}

// A program of its own around a TAM, whose keys are anywhere behind [crypto.Signer]. transport.NewHandler serves such a
// TAM to agents.
func Example_keysElsewhere() {
	err := func() error {
		ctx := context.Background()
		dir, err := os.MkdirTemp("", "tam")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		_, ed, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		services := map[cose.Algorithm]*keyService{cose.AlgESP256: {key: p256}, cose.AlgEd25519: {key: ed}}
		var signers []cose.Signer
		var known []*cose.Key
		for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519} {
			signer, err := cose.NewSigner(alg, services[alg])
			if err != nil {
				return err
			}
			signers, known = append(signers, signer), append(known, signer.Public())
		}
		anchors, err := cose.NewKeySet(known...)
		if err != nil {
			return err
		}

		store, err := sqlite.Open(ctx, filepath.Join(dir, "tam.db"), sqlite.Options{})
		if err != nil {
			return err
		}
		defer store.Close()
		blobs, err := blobfs.Open(filepath.Join(dir, "envelopes"))
		if err != nil {
			return err
		}
		defer blobs.Close()
		service, err := tam.New(ctx, tam.Config{
			Signers: signers, Results: tam.PassportVerifier(anchors, time.Now), Store: store, Blobs: blobs,
		})
		if err != nil {
			return err
		}
		request, err := service.ProcessConnect(ctx)
		if err != nil {
			return err
		}

		// What an agent that knows the public keys makes of it.
		for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519} {
			opened, err := teep.Open(request, anchors, teep.OpenOptions{Algorithms: []cose.Algorithm{alg}})
			if err != nil {
				return err
			}
			fmt.Printf("%v: %T, signed %d times\n", alg, opened.Message, services[alg].used)
		}
		return nil
	}()
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// ESP256: *teep.QueryRequest, signed 1 times
	// Ed25519: *teep.QueryRequest, signed 1 times
}
