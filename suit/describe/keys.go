package describe

import "github.com/go-teep/teep/suit"

// The words of a description. The reader and the schema both go by these lists; they are read only.
var (
	topLevel = []string{"manifest-component-id", "sequence-number", "version", "vendor", "class", "device", "components",
		"dependencies", "text", "reference-uri", "coswid", "severable", "digest-algorithm", "uninstall", "sequences", "untagged"}
	componentKeys = []string{"id", "vendor", "class", "device", "payload", "content", "slots", "copy-from", "swap-with",
		"load-from", "image", "invoke", "text", "metadata"}
	payloadKeys    = []string{"file", "uri", "uris", "integrated", "digest", "size", "encrypt"}
	slotKeys       = []string{"slot", "file", "uri", "integrated", "digest", "size"}
	imageKeys      = []string{"file", "digest", "size"}
	encryptKeys    = []string{"to", "algorithm", "info", "ciphertext", "encryption-info"}
	invokeKeys     = []string{"args"}
	dependencyKeys = []string{"id", "file", "uri", "integrated", "digest", "prefix", "set-parameters"}
	allTextKeys    = []string{"description", "update-description", "json-source", "yaml-source", "vendor-name", "model-name",
		"vendor-domain", "model-info", "component-description", "component-version", "version-required", "current-version"}
	waitKeys = []string{"authorization", "power", "network", "other-device-version", "time", "time-of-day", "day-of-week",
		"time-of-day-utc", "day-of-week-utc"}
	otherDeviceKeys = []string{"device", "versions"}
	metadataKeys    = []string{"default-permissions", "user-permissions", "group-permissions", "role-permissions", "file-type",
		"modification-time", "creation-time", "creator"}
)

// Forms are mappings of which exactly one key is given.
var (
	vendorForms = []string{"domain", "uuid", "pen"}
	classForms  = []string{"name", "uuid"}
	deviceForms = []string{"uuid"}
	digestForms = []string{"file", "sha-256", "sha-384", "sha-512"}
	bytesForms  = []string{"text", "hex", "uuid", "file"}
	actorForms  = []string{"hex", "uuid"}
	coswidForms = []string{"file"}
)

// Words that are values.
var (
	infoPlaces = []string{"manifest", "separate"}
	fileTypes  = []string{"regular", "directory", "symlink"}
	hashNames  = []string{"sha-256", "sha-384", "sha-512"}
	severable  = []suit.Label{suit.LabelText, suit.LabelInstall, suit.LabelPayloadFetch, suit.LabelDependencyResolution, suit.LabelCandidateVerification, suit.LabelCoSWID}
)

// componentTextKeyList are the text keys that are about a component.
func componentTextKeyList() []string { return allTextKeys[len(textKeys):] }

func labelNames(labels []suit.Label) []string {
	names := make([]string, len(labels))
	for i, l := range labels {
		names[i] = l.String()
	}
	return names
}

// sequenceNames are the keys of sequences: the shared one, then suit.SectionLabels.
func sequenceNames() []string { return append([]string{"shared"}, labelNames(suit.SectionLabels())...) }
