package seal

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/go-teep/teep/tee"
)

// Defaults of Config.
const (
	DefaultMaxRecordBytes = 16 << 20
	DefaultMaxAppBytes    = 16 << 20
)

// MonotonicCounter is a counter in hardware that the host cannot turn back.
type MonotonicCounter interface {
	// Value returns the current value.
	Value() (uint64, error)
	// Increment adds one. On return the new value is durable.
	Increment() error
}

// Config says where a store lives and what protects it.
type Config struct {
	// Disk is the folder. One store at a time uses it; the caller sees to that.
	Disk Disk
	// Secret is the sealing secret, at least 32 bytes of full entropy, the same at every start.
	// The store keeps no copy: it stays the caller's, unchanged, for as long as the store is used, and
	// zeroing it ends that.
	Secret []byte
	// Rand is the source of randomness, crypto/rand.Reader outside tests.
	Rand io.Reader
	// Counter finds rollback of the whole folder. nil: such a rollback is not found.
	Counter MonotonicCounter
	// Version is that of the program which opens the store. One that a newer program has opened refuses
	// an older one (ErrOlder): once an update closed a hole, there is no way back through it. 0 for
	// programs that are not counted. A program says its own version: that it is this program, something
	// else has to see to, as the measured boot does.
	Version uint64
	// Logger tells of repairs; nil discards them.
	Logger *slog.Logger
	// MaxRecordBytes bounds the state record, MaxAppBytes the sum of the values of one
	// application; 0 means the default.
	MaxRecordBytes, MaxAppBytes int64
}

// ErrOlder says that a newer program has opened the store.
var ErrOlder = errors.New("seal: a newer version of this program has opened the state")

// Store implements tee.Store. Safe for concurrent use.
type Store struct {
	disk      Disk
	secret    []byte
	rand      io.Reader
	counter   MonotonicCounter
	version   uint64
	log       *slog.Logger
	maxRecord int64
	maxApp    int64

	mu   sync.RWMutex
	root root
	// fileOf is the current file name of each item in root; it ends in ".new" until the
	// rename after the commit went through.
	fileOf map[string]string
	// orphans are item files of changes that failed, to be removed once a root is in force
	// that certainly does not name them.
	orphans []string
	// blobsUnsynced says that the names of committed blobs may not be durable.
	blobsUnsynced bool

	liveMu sync.Mutex
	live   map[string]bool // temporary blob files that have a writer
}

var (
	_ tee.Store = (*Store)(nil)
)

// Open opens the store in a folder, or makes one in an empty folder. It finishes or undoes what a
// crash interrupted. tee.ErrCorrupt: the folder was changed from outside, or the secret is not
// the one that sealed it. tee.ErrRollback: the folder is an older copy. ErrOlder: the program is older than
// another that has opened it.
func Open(cfg Config) (*Store, error) {
	if len(cfg.Secret) < 32 {
		return nil, fmt.Errorf("seal: the sealing secret has %d bytes: at least 32 are needed", len(cfg.Secret))
	}
	if cfg.Disk == nil || cfg.Rand == nil {
		return nil, errors.New("seal: Config needs a Disk and a Rand")
	}
	s := &Store{
		disk: cfg.Disk, secret: cfg.Secret,
		rand: cfg.Rand, counter: cfg.Counter, version: cfg.Version, log: cfg.Logger,
		maxRecord: cfg.MaxRecordBytes, maxApp: cfg.MaxAppBytes,
		fileOf: map[string]string{}, live: map[string]bool{},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.maxRecord == 0 {
		s.maxRecord = DefaultMaxRecordBytes
	}
	if s.maxApp == 0 {
		s.maxApp = DefaultMaxAppBytes
	}
	if err := s.recover(); err != nil {
		return nil, fmt.Errorf("seal: open the store: %w", err)
	}
	return s, nil
}

// CounterValue implements tee.Counter; tee.ErrNotExist if the store has no counter.
func (s *Store) CounterValue() (uint64, error) {
	if s.counter == nil {
		return 0, fmt.Errorf("%w: this store has no monotonic counter", tee.ErrNotExist)
	}
	return s.counter.Value()
}

const recordName = "record"

// LoadRecord implements tee.Store.
func (s *Store) LoadRecord() ([]byte, uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.root.Generation == 0 {
		return nil, 0, nil
	}
	record, err := s.readItem(recordName, s.maxRecord)
	if errors.Is(err, tee.ErrNotExist) {
		err = corrupt("state record is missing")
	}
	if err != nil {
		return nil, 0, fmt.Errorf("seal: load the state record: %w", err)
	}
	return record, s.root.Generation, nil
}

// ReplaceRecord implements tee.Store. After an error other than tee.ErrGeneration the old record
// holds, unless the process ends before the store could make sure of that.
func (s *Store) ReplaceRecord(generation uint64, record []byte) error {
	if int64(len(record)) > s.maxRecord {
		return fmt.Errorf("%w: state record of %d bytes, limit %d", tee.ErrQuota, len(record), s.maxRecord)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if generation != s.root.Generation {
		return fmt.Errorf("%w: it is %d, the caller has %d: load the record again", tee.ErrGeneration, s.root.Generation, generation)
	}
	// A record may name only blobs that survive.
	if s.blobsUnsynced {
		if err := s.disk.SyncDir(blobsDir); err != nil {
			return fmt.Errorf("seal: replace the state record: %w", err)
		}
		s.blobsUnsynced = false
	}
	if record == nil {
		record = []byte{}
	}
	if err := s.change(recordName, record, generation+1); err != nil {
		return fmt.Errorf("seal: replace the state record: %w", err)
	}
	return nil
}

// Item returns one of the TEE's own sealed items (its keys, say); tee.ErrNotExist if there is none.
func (s *Store) Item(name string) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b, err := s.readItem("own/"+name, s.maxRecord)
	if err != nil {
		return nil, fmt.Errorf("seal: load item %s: %w", name, err)
	}
	return b, nil
}

// PutItem replaces one of the TEE's own sealed items, atomically and durably.
func (s *Store) PutItem(name string, content []byte) error {
	if int64(len(content)) > s.maxRecord {
		return fmt.Errorf("%w: item %s of %d bytes, limit %d", tee.ErrQuota, name, len(content), s.maxRecord)
	}
	if content == nil {
		content = []byte{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.change("own/"+name, content, s.root.Generation); err != nil {
		return fmt.Errorf("seal: store item %s: %w", name, err)
	}
	return nil
}

// hiddenName derives its key each time: a key less that stays in memory.
func (s *Store) hiddenName(context string, id []byte) string {
	key, err := hkdf.Key(sha256.New, s.secret, nil, "go-teep seal 1\x00names", 32)
	if err != nil {
		panic(err) // only for more output than HKDF has
	}
	defer clear(key)
	m := hmac.New(sha256.New, key)
	m.Write([]byte(context))
	m.Write([]byte{0})
	m.Write(id)
	return hex.EncodeToString(m.Sum(nil))
}
