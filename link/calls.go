package link

import (
	"errors"
	"fmt"

	"github.com/go-teep/teep/internal/cbor"
)

// The calls of the link, as the body of a frame of package frame: code is the method, body the
// arguments, the answer's body the result. There are no other methods.
//
//	request-ta           = 1   args: [ component-id, tam-uri: tstr, min-sequence: uint,
//	                                   has-binary: bool ]                                 result: ask
//	unrequest-ta         = 2   args: [ component-id ]                                     result: ask
//	request-policy-check = 3   args: []                                                   result: ask
//	process-teep-message = 4   args: [ session: uint, message: bstr ]                     result: ask
//	process-error        = 5   args: [ session: uint, tam-uri: tstr, reason: tstr ]       result: null
//	deliver              = 6   args: [ session: uint, fetch-id: uint, offset: uint,
//	                                   data: bstr .size (0..1048576), last: bool, err: tstr ]  result: ask
//	open-session         = 7   args: [ component-id ]                                     result: uint
//	invoke               = 8   args: [ app: uint, command: tstr, input: bstr ]            result: bstr
//	close-session        = 9   args: [ app: uint ]                                        result: null
//	appraised            = 10  args: [ session: uint, appraisal-id: uint, media-type: tstr,
//	                                   attestation-result: bstr .size (0..65536), err: tstr ]  result: ask
//	replace-trust        = 11  args: [ signed-anchor-set: bstr .size (1..1048576) ]       result: null
//	renew-revocations    = 12  args: [ [ 1*16 file: bstr .size (1..1048576) ] ]           result: null
//
//	component-id = [ + bstr ]
//	ask       = [ session: uint, tam-uri: tstr, message: bstr / null, fetch: fetch / null, ? appraisal ]
//	fetch     = [ id: uint, uri: tstr, offset: uint, length: uint ]
//	appraisal = [ id: uint, media-type: tstr, evidence: bstr .size (1..1048576), nonce: bstr .size (8..64) ]
//
// A broker that does not know appraisals meets none from an agent that was not configured to ask.
const (
	methodRequestTA          = 1
	methodUnrequestTA        = 2
	methodRequestPolicyCheck = 3
	methodProcessTeepMessage = 4
	methodProcessError       = 5
	methodDeliver            = 6
	methodOpenSession        = 7
	methodInvoke             = 8
	methodCloseSession       = 9
	methodAppraised          = 10
	methodReplaceTrust       = 11
	methodRenewRevocations   = 12
)

// Limits on strings and identifiers; both ends check.
const (
	// MaxURI is the longest URI in bytes.
	MaxURI = 4096
	// MaxReason is the longest reason in bytes, of ProcessError and of a Chunk.
	MaxReason = 1024
	// MaxCommand is the longest name of an application's command in bytes.
	MaxCommand = 1024
	// MaxComponentID bounds a component identifier: the sum of its parts in bytes.
	MaxComponentID = 1024
	// MaxComponentParts is the largest number of parts of a component identifier.
	MaxComponentParts = 64
)

type requestArgs struct {
	_           struct{} `cbor:",toarray"`
	Component   ComponentID
	TAMURI      string
	MinSequence uint64
	HasBinary   bool
}

type componentArgs struct {
	_         struct{} `cbor:",toarray"`
	Component ComponentID
}

type noArgs struct {
	_ struct{} `cbor:",toarray"`
}

type messageArgs struct {
	_       struct{} `cbor:",toarray"`
	Session uint64
	Message []byte
}

type errorArgs struct {
	_       struct{} `cbor:",toarray"`
	Session uint64
	TAMURI  string
	Reason  string
}

type chunkArgs struct {
	_       struct{} `cbor:",toarray"`
	Session uint64
	FetchID uint64
	Offset  uint64
	Data    []byte
	Last    bool
	Err     string
}

type invokeArgs struct {
	_       struct{} `cbor:",toarray"`
	App     uint64
	Command string
	Input   []byte
}

type appArgs struct {
	_   struct{} `cbor:",toarray"`
	App uint64
}

type appraisedArgs struct {
	_           struct{} `cbor:",toarray"`
	Session     uint64
	AppraisalID uint64
	MediaType   string
	Result      []byte
	Err         string
}

type trustArgs struct {
	_      struct{} `cbor:",toarray"`
	Signed []byte
}

type revocationArgs struct {
	_     struct{} `cbor:",toarray"`
	Files [][]byte
}

type wireAsk struct {
	_       struct{} `cbor:",toarray"`
	Session uint64
	TAMURI  string
	Message []byte
	Fetch   *wireFetch
}

type wireFetch struct {
	_      struct{} `cbor:",toarray"`
	ID     uint64
	URI    string
	Offset uint64
	Length uint64
}

// wireAskAppraisal is an ask with its fifth member.
type wireAskAppraisal struct {
	_         struct{} `cbor:",toarray"`
	Session   uint64
	TAMURI    string
	Message   []byte
	Fetch     *wireFetch
	Appraisal wireAppraisal
}

type wireAppraisal struct {
	_         struct{} `cbor:",toarray"`
	ID        uint64
	MediaType string
	Evidence  []byte
	Nonce     []byte
}

// majorArray is the major type of CBOR arrays (RFC 8949 §3.1).
const majorArray = 4

const maxInt63 = 1<<63 - 1

func toWire(a Ask) (any, error) {
	w := wireAsk{Session: a.Session, TAMURI: a.TAMURI, Message: a.Message}
	if p := a.Appraisal; p != nil {
		return wireAskAppraisal{Session: a.Session, TAMURI: a.TAMURI, Message: a.Message,
			Appraisal: wireAppraisal{ID: p.ID, MediaType: p.MediaType, Evidence: p.Evidence, Nonce: p.Nonce}}, nil
	}
	if a.Fetch != nil {
		if a.Fetch.Offset < 0 || a.Fetch.Length < 0 {
			return nil, fmt.Errorf("link: fetch of %d bytes from offset %d", a.Fetch.Length, a.Fetch.Offset)
		}
		w.Fetch = &wireFetch{ID: a.Fetch.ID, URI: a.Fetch.URI, Offset: uint64(a.Fetch.Offset), Length: uint64(a.Fetch.Length)}
	}
	return w, nil
}

// fromWire checks an ask that came from the agent. Its URIs are checked for size only: which ones
// may be used is for the broker to say.
func fromWire(w wireAsk) (Ask, error) {
	a := Ask{Session: w.Session, TAMURI: w.TAMURI, Message: w.Message}
	switch {
	case len(w.TAMURI) > MaxURI:
		return Ask{}, fmt.Errorf("link: the agent gave a TAM URI of %d bytes; %d are allowed", len(w.TAMURI), MaxURI)
	case len(w.Message) > 0 && w.TAMURI == "":
		return Ask{}, errors.New("link: the agent gave a message and no TAM URI to send it to")
	case w.Fetch == nil:
		return a, nil
	case w.TAMURI != "":
		return Ask{}, errors.New("link: the agent asked for a message to be sent and a fetch at once")
	case len(w.Fetch.URI) > MaxURI || w.Fetch.URI == "":
		return Ask{}, fmt.Errorf("link: the agent asked to fetch from a URI of %d bytes; 1 to %d are allowed", len(w.Fetch.URI), MaxURI)
	case w.Fetch.Offset > maxInt63 || w.Fetch.Length > MaxChunk || w.Fetch.Length == 0:
		return Ask{}, fmt.Errorf("link: the agent asked to fetch %d bytes from offset %d", w.Fetch.Length, w.Fetch.Offset)
	}
	a.Fetch = &Fetch{ID: w.Fetch.ID, URI: w.Fetch.URI, Offset: int64(w.Fetch.Offset), Length: int64(w.Fetch.Length)}
	return a, nil
}

// decodeAsk reads an ask, which says by its length whether it asks for an appraisal.
func decodeAsk(data cbor.RawMessage) (Ask, error) {
	const five = majorArray<<5 | 5
	if len(data) == 0 || data[0] != five {
		var w wireAsk
		if len(data) == 0 || data[0]>>5 != majorArray {
			return Ask{}, errors.New("link: the agent gave an ask that is no array")
		}
		if err := cbor.Unmarshal(data, &w); err != nil {
			return Ask{}, fmt.Errorf("link: the agent gave a malformed ask: %w", err)
		}
		return fromWire(w)
	}
	var w wireAskAppraisal
	if err := cbor.Unmarshal(data, &w); err != nil {
		return Ask{}, fmt.Errorf("link: the agent gave a malformed ask: %w", err)
	}
	p := w.Appraisal
	switch {
	case w.TAMURI != "" || len(w.Message) > 0 || w.Fetch != nil:
		return Ask{}, errors.New("link: the agent asked for an appraisal and something else at once")
	case len(p.Evidence) == 0 || len(p.Evidence) > MaxEvidence || len(p.MediaType) == 0 || len(p.MediaType) > MaxMediaType:
		return Ask{}, fmt.Errorf("link: the agent asked to appraise %d bytes under a media type of %d; 1 to %d and 1 to %d are allowed",
			len(p.Evidence), len(p.MediaType), MaxEvidence, MaxMediaType)
	case len(p.Nonce) < minNonce || len(p.Nonce) > maxNonce:
		return Ask{}, fmt.Errorf("link: the agent asked for an appraisal with a nonce of %d bytes; %d to %d are allowed", len(p.Nonce), minNonce, maxNonce)
	}
	return Ask{Session: w.Session, Appraisal: &Appraisal{ID: p.ID, MediaType: p.MediaType, Evidence: p.Evidence, Nonce: p.Nonce}}, nil
}

// Sizes of an eat_nonce in bytes (RFC 9711 §4.1).
const (
	minNonce = 8
	maxNonce = 64
)

func checkAppraised(r Appraised) error {
	switch {
	case len(r.Result) > MaxResult:
		return fmt.Errorf("%w: Attestation Result of %d bytes; up to %d are allowed", ErrRefused, len(r.Result), MaxResult)
	case (len(r.Result) == 0) == (r.Err == ""):
		return fmt.Errorf("%w: an appraisal ends with either a result or an error", ErrRefused)
	}
	if err := checkText("media type", r.MediaType, MaxMediaType); err != nil {
		return err
	}
	return checkText("reason", r.Err, MaxReason)
}

func checkAnchors(signed []byte) error {
	if len(signed) == 0 || len(signed) > MaxAnchors {
		return fmt.Errorf("%w: a signed set of trust anchors of %d bytes; 1 to %d are allowed", ErrRefused, len(signed), MaxAnchors)
	}
	return nil
}

func checkRevocationFiles(files [][]byte) error {
	if len(files) == 0 || len(files) > MaxRevocationFiles {
		return fmt.Errorf("%w: %d files of revocation lists; 1 to %d are allowed", ErrRefused, len(files), MaxRevocationFiles)
	}
	for _, f := range files {
		if len(f) == 0 || len(f) > MaxRevocationFile {
			return fmt.Errorf("%w: a file of revocation lists of %d bytes; 1 to %d are allowed", ErrRefused, len(f), MaxRevocationFile)
		}
	}
	return nil
}

func checkComponent(id ComponentID) error {
	size := 0
	for _, part := range id {
		size += len(part)
	}
	if len(id) == 0 || len(id) > MaxComponentParts || size > MaxComponentID {
		return fmt.Errorf("%w: component identifier of %d parts and %d bytes; 1 to %d parts and up to %d bytes are allowed",
			ErrRefused, len(id), size, MaxComponentParts, MaxComponentID)
	}
	return nil
}

func checkText(name, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%w: %s of %d bytes; up to %d are allowed", ErrRefused, name, len(s), limit)
	}
	return nil
}

func checkChunk(c Chunk) error {
	switch {
	case len(c.Data) > MaxChunk:
		return fmt.Errorf("%w: chunk of %d bytes; up to %d are allowed", ErrRefused, len(c.Data), MaxChunk)
	case c.Offset < 0:
		return fmt.Errorf("%w: chunk at offset %d", ErrRefused, c.Offset)
	case c.Err != "" && (len(c.Data) > 0 || c.Last):
		return fmt.Errorf("%w: chunk with data and an error", ErrRefused)
	}
	return checkText("reason", c.Err, MaxReason)
}

// decodeArgs decodes a call's arguments; what does not fit is an unknown call.
func decodeArgs[T any](body cbor.RawMessage) (args T, err error) {
	// The CBOR library takes null for the zero value of anything.
	if len(body) == 0 || body[0]>>5 != majorArray {
		return args, fmt.Errorf("%w: the arguments are no array", ErrUnknownCall)
	}
	if err := cbor.Unmarshal(body, &args); err != nil {
		return args, fmt.Errorf("%w: %w", ErrUnknownCall, err)
	}
	return args, nil
}
