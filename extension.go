package teep

// Frame is a message taken apart, as far as every message type agrees (TEEP §4).
//
//	teep-message-framework = [
//	  type: $teep-type / $teep-type-extension,
//	  options: { * teep-option },
//	  * any; further elements, e.g., for data-item-requested
//	]
//	teep-option = (uint => any)
type Frame struct {
	Type    MessageType
	Options map[uint64]RawMessage
	Further []RawMessage
}

// ExtensionMessage is a message of a type that this package does not know, made known from
// outside by a [Registry]. [Encode] and [Protect] take it.
type ExtensionMessage interface {
	Message
	// Frame returns the message's parts. It must name the same type as Type.
	Frame() (Frame, error)
}

// Registry decodes extension message types. It is a value that the caller passes in
// [OpenOptions] or [Decoder]; types of this package in it are ignored. The function checks the
// frame's contents; an error that is no [*ProtocolError] becomes ERR_PERMANENT_ERROR.
type Registry map[MessageType]func(Frame) (Message, error)
