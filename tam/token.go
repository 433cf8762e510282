package tam

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Tokens and challenges (TEEP §4.2, §7.1) are the same thing under different purposes: 44 bytes
// that any replica can check without having stored them.
//
//	 0      purpose
//	 1      request: the data items that the QueryRequest asked for
//	 2..6   generation of the key
//	 6..12  issue time, Unix milliseconds
//	12..28  random
//	28..44  HMAC-SHA-256 over 0..28 and the bound data, its first 16 bytes
//
// The bound data is what the token may only be used together with: for an Update the thumbprint
// of the agent key, so that one device cannot answer for another. It is not inside the token,
// which therefore identifies no device (TEEP §4.2 forbids that). Bytes 6..22, the time and the
// first part of what is random, are the token's identity: it is never used twice, and it is what is
// stored when the token is used up. It begins with the time because stores keep it in order: what
// is used up in one hour then lies together, however much was used up before.
const (
	tokenSize   = 44
	tokenIDAt   = 6
	tokenIDEnd  = 22
	tokenMACAt  = 28
	tokenRandAt = 12
)

// purpose separates the uses of tokens from each other. 1 to 3 were those of tokens with another
// identity, which are refused: what is stored of them does not tell whether they were used up.
type purpose byte

const (
	purposeChallenge purpose = 4 // QueryRequest with the attestation bit set
	purposeQuery     purpose = 5 // token of a QueryRequest without
	purposeUpdate    purpose = 6 // token of an Update
)

func (p purpose) String() string {
	switch p {
	case purposeChallenge:
		return "challenge"
	case purposeQuery:
		return "QueryRequest token"
	case purposeUpdate:
		return "Update token"
	}
	return fmt.Sprintf("purpose %d", byte(p))
}

// The reasons for which a token is ignored. They go to the log, never to the sender.
var (
	errTokenForeign = errors.New("not made by this TAM, or for another device")
	errTokenPurpose = errors.New("made for another purpose")
	errTokenExpired = errors.New("expired")
)

// storeError says that a token could not be checked, which is not the sender's fault.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

// token is a checked token.
type token struct {
	id      [16]byte
	request byte
	issued  time.Time
	expires time.Time
}

// tokens makes and checks tokens. Safe for concurrent use.
type tokens struct {
	store    TokenKeys
	clock    func() time.Time
	rand     io.Reader
	lifetime time.Duration
	rotate   time.Duration

	mu        sync.Mutex
	ring      map[uint32]TokenKey
	newest    uint32
	reloaded  time.Time
	hasLoaded bool
}

// reloadPause bounds how often tokens of unknown generations make the TAM read its store:
// they are free to make for anybody.
const reloadPause = 10 * time.Second

// issue makes a token for a purpose, bound to data.
func (t *tokens) issue(ctx context.Context, p purpose, request byte, bound []byte) ([]byte, token, error) {
	now := t.clock()
	key, err := t.current(ctx, now)
	if err != nil {
		return nil, token{}, err
	}
	b := make([]byte, tokenSize)
	b[0], b[1] = byte(p), request
	binary.BigEndian.PutUint32(b[2:6], key.Generation)
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(now.UnixMilli()))
	copy(b[6:12], ms[2:])
	if _, err := io.ReadFull(t.rand, b[tokenRandAt:tokenMACAt]); err != nil {
		return nil, token{}, fmt.Errorf("tam: randomness for a token: %w", err)
	}
	copy(b[tokenMACAt:], tokenMAC(key.Secret, b, bound))
	return b, t.describe(b), nil
}

// check authenticates a token and its age. Whether it was used up is the store's to say.
func (t *tokens) check(ctx context.Context, b []byte, want purpose, bound []byte) (token, error) {
	if len(b) != tokenSize {
		return token{}, errTokenForeign
	}
	key, ok, err := t.generation(ctx, binary.BigEndian.Uint32(b[2:6]))
	if err != nil {
		return token{}, err
	}
	if !ok || !hmac.Equal(b[tokenMACAt:], tokenMAC(key.Secret, b, bound)) {
		return token{}, errTokenForeign
	}
	if purpose(b[0]) != want {
		return token{}, fmt.Errorf("%w (%v where a %v was expected)", errTokenPurpose, purpose(b[0]), want)
	}
	tok := t.describe(b)
	if now := t.clock(); !now.Before(tok.expires) {
		return token{}, fmt.Errorf("%w at %s", errTokenExpired, tok.expires.UTC().Format(time.RFC3339))
	}
	return tok, nil
}

func (t *tokens) describe(b []byte) token {
	var ms [8]byte
	copy(ms[2:], b[6:12])
	issued := time.UnixMilli(int64(binary.BigEndian.Uint64(ms[:])))
	return token{
		id:      [16]byte(b[tokenIDAt:tokenIDEnd]),
		request: b[1],
		issued:  issued,
		expires: issued.Add(t.lifetime),
	}
}

// tokenMAC binds the token's own bytes and the bound data. The former have a fixed length, so
// that the concatenation is unambiguous.
func tokenMAC(secret, b, bound []byte) []byte {
	m := hmac.New(sha256.New, secret)
	m.Write(b[:tokenMACAt])
	m.Write(bound)
	return m.Sum(nil)[:tokenSize-tokenMACAt]
}

// current returns the newest key, making one when there is none or when it is due for rotation.
// Old keys stay until the last token made under them expired.
func (t *tokens) current(ctx context.Context, now time.Time) (TokenKey, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.hasLoaded || t.due(now) {
		if err := t.reload(ctx, now); err != nil {
			return TokenKey{}, err
		}
	}
	for t.due(now) {
		if err := t.add(ctx, now); err != nil {
			return TokenKey{}, err
		}
	}
	return t.ring[t.newest], nil
}

func (t *tokens) due(now time.Time) bool {
	key, ok := t.ring[t.newest]
	return !ok || now.Sub(key.Created) >= t.rotate
}

func (t *tokens) add(ctx context.Context, now time.Time) error {
	secret := make([]byte, 32)
	if _, err := io.ReadFull(t.rand, secret); err != nil {
		return fmt.Errorf("tam: randomness for a token key: %w", err)
	}
	err := t.store.AddTokenKey(ctx, TokenKey{Generation: t.newest + 1, Secret: secret, Created: now})
	if err != nil && !errors.Is(err, ErrConflict) {
		return fmt.Errorf("tam: storing a token key: %w", err)
	}
	// A key made at rotation time stops being used one rotation later; its last token lives
	// one lifetime more.
	if err := t.store.DropTokenKeys(ctx, now.Add(-t.rotate-t.lifetime)); err != nil {
		return fmt.Errorf("tam: dropping old token keys: %w", err)
	}
	return t.reload(ctx, now)
}

// generation finds the key of one generation, asking the store when another replica may have
// made it meanwhile.
func (t *tokens) generation(ctx context.Context, g uint32) (TokenKey, bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if key, ok := t.ring[g]; ok {
		return key, true, nil
	}
	now := t.clock()
	if t.hasLoaded && now.Sub(t.reloaded) < reloadPause && g != t.newest+1 {
		return TokenKey{}, false, nil
	}
	if err := t.reload(ctx, now); err != nil {
		return TokenKey{}, false, &storeError{err}
	}
	key, ok := t.ring[g]
	return key, ok, nil
}

func (t *tokens) reload(ctx context.Context, now time.Time) error {
	keys, err := t.store.TokenKeys(ctx)
	if err != nil {
		return fmt.Errorf("tam: reading the token keys: %w", err)
	}
	t.ring = make(map[uint32]TokenKey, len(keys))
	t.newest = 0
	for _, k := range keys {
		t.ring[k.Generation] = k
		t.newest = max(t.newest, k.Generation)
	}
	t.reloaded, t.hasLoaded = now, true
	return nil
}
