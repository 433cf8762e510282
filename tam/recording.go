package tam

import (
	"context"
	"time"
)

// Direction says which way a recorded message went.
type Direction string

// The directions.
const (
	DirectionReceived Direction = "received" // from the device
	DirectionSent     Direction = "sent"     // to the device
)

// MaxRecorded is how many bytes of a message a record keeps. Of a larger one, such as an Update with
// its payloads inside, the record holds that it was there and how large it was.
const MaxRecorded = 64 << 10

// Recorded is one protected message of a session, as it crossed the wire. Only messages of which
// something was stored are recorded: whoever repeats old ones, or sends garbage, fills no disk.
type Recorded struct {
	DeviceID string
	// ID rises with time, and is unique for the device: Unix microseconds, one more where two
	// messages would share them.
	ID        int64
	At        time.Time
	Direction Direction
	// Asked is when the QueryRequest was issued that this QueryResponse answers; else zero. The
	// QueryRequest itself is not recorded, because issuing one stores nothing.
	Asked time.Time
	// Size is that of the message in bytes, Data the message, or empty when Size is over
	// [MaxRecorded].
	Size int
	Data []byte
}

// Recorder takes the messages of sessions. Record must not block and keeps no reference to what Data
// points to after the message was answered; it may drop what it cannot take.
type Recorder interface {
	Record(messages ...Recorded)
}

// Recordings keeps the newest messages of each device, for people who look for the cause of a fault.
// Losing some of them in a crash, or to another replica that records at the same microsecond, is no
// breach of the contract; everything else of [Store]'s guarantees holds.
type Recordings interface {
	// AddRecorded adds messages and then removes, of each device that they concern, all but the
	// newest keep ones.
	AddRecorded(ctx context.Context, messages []Recorded, keep int) error
	// RecordedMessages lists the messages of a device, newest first, beginning before the ID
	// `before` (0: from the newest), without their Data.
	RecordedMessages(ctx context.Context, deviceID string, before int64, limit int) ([]Recorded, error)
	// RecordedMessage finds one message, with its Data.
	RecordedMessage(ctx context.Context, deviceID string, id int64) (*Recorded, error)
	// SweepRecorded removes at most limit messages that are older than before, and returns how
	// many.
	SweepRecorded(ctx context.Context, before time.Time, limit int) (int, error)
}

// record hands the messages of an exchange that was stored to the recorder.
func (t *TAM) record(s *sender, arrived time.Time, msg, reply []byte) {
	if t.recorder == nil || s.stored == "" {
		return
	}
	messages := []Recorded{{
		DeviceID: s.stored, At: arrived, Direction: DirectionReceived, Asked: s.asked, Size: len(msg), Data: msg,
	}}
	if len(reply) > 0 {
		messages = append(messages, Recorded{
			DeviceID: s.stored, At: t.clock(), Direction: DirectionSent, Size: len(reply), Data: reply,
		})
	}
	t.recorder.Record(messages...)
}
