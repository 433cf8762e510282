package cose

// Limits on what is read before anything is authenticated. They are far above what TEEP, SUIT and
// EAT messages need and far below what hurts.
const (
	// MaxMessageBytes bounds one encoded message with its embedded payload. Larger payloads travel
	// detached.
	MaxMessageBytes = 64 << 20
	// MaxHeaderBytes bounds one header bucket. Certificate chains are what needs the room.
	MaxHeaderBytes = 64 << 10
	// MaxHeaderParameters bounds the number of parameters in one header bucket.
	MaxHeaderParameters = 64
	// MaxSigners bounds the signatures in one COSE_Sign.
	MaxSigners = 16
	// MaxRecipients bounds the recipients in one COSE_Encrypt.
	MaxRecipients = 4096
	// MaxTrials bounds the public-key operations that one message can cause when it does not name
	// its keys.
	MaxTrials = 64
	// MaxCertificates bounds the certificates in one x5chain.
	MaxCertificates = 8
	// MaxKeyBytes bounds an encoded COSE_Key or a PEM file.
	MaxKeyBytes = 64 << 10

	// maxSaltBytes bounds the HKDF salt of a recipient.
	maxSaltBytes = 1024
	// minSymmetricKeyBytes is the shortest symmetric key that is good for anything here.
	minSymmetricKeyBytes = 16
	// maxSymmetricKeyBytes bounds a symmetric key.
	maxSymmetricKeyBytes = 1024
	// maxKeyIDBytes bounds a key identifier.
	maxKeyIDBytes = 1024
)
