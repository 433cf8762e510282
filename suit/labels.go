package suit

import "strconv"

// Label is a key of the envelope and manifest maps (SUIT §11.1, §11.2; trust domains; update
// management). Severable members have the same key in both (SUIT §8.4.12).
type Label int64

// Members of the envelope and of the manifest.
const (
	LabelDelegation            Label = 1 // envelope; reserved: recognised, carried, never evaluated
	LabelAuthentication        Label = 2 // envelope
	LabelManifest              Label = 3 // envelope
	LabelManifestVersion       Label = 1
	LabelSequenceNumber        Label = 2
	LabelCommon                Label = 3
	LabelReferenceURI          Label = 4
	LabelManifestComponentID   Label = 5
	LabelSetVersion            Label = 6
	LabelValidate              Label = 7
	LabelLoad                  Label = 8
	LabelInvoke                Label = 9
	LabelCoSWID                Label = 14
	LabelDependencyResolution  Label = 15
	LabelPayloadFetch          Label = 16
	LabelCandidateVerification Label = 18
	LabelInstall               Label = 20
	LabelText                  Label = 23
	LabelUninstall             Label = 24
	labelDependencies                = 1 // in suit-common
	labelComponents                  = 2
	labelSharedSequence              = 4
	labelDependencyPrefix            = 1 // in SUIT_Dependency_Metadata
	labelMax                   Label = 24
	tagEnvelope                      = 107
	tagManifest                      = 1070
	manifestVersion                  = 1
)

// String names a member of the manifest, without its "suit-" prefix.
func (l Label) String() string { return nameOf(manifestNames, int64(l)) }

// Severable tells whether a member may be replaced by its digest.
func (l Label) Severable() bool {
	switch l {
	case LabelPayloadFetch, LabelInstall, LabelText, LabelDependencyResolution,
		LabelCandidateVerification, LabelCoSWID:
		return true
	}
	return false
}

// CommandCode identifies a condition or a directive (SUIT §11.4). Values of −256 and below are
// custom commands.
type CommandCode int64

// Conditions.
const (
	CondVendorIdentifier    CommandCode = 1
	CondClassIdentifier     CommandCode = 2
	CondImageMatch          CommandCode = 3
	CondUseBefore           CommandCode = 4
	CondComponentSlot       CommandCode = 5
	CondCheckContent        CommandCode = 6
	CondDependencyIntegrity CommandCode = 7
	CondIsDependency        CommandCode = 8
	CondAbort               CommandCode = 14
	CondDeviceIdentifier    CommandCode = 24
	CondImageNotMatch       CommandCode = 25
	CondMinimumBattery      CommandCode = 26
	CondUpdateAuthorized    CommandCode = 27
	CondVersion             CommandCode = 28
)

// Directives.
const (
	DirProcessDependency  CommandCode = 11
	DirSetComponentIndex  CommandCode = 12
	DirTryEach            CommandCode = 15
	DirWrite              CommandCode = 18
	DirSetParameters      CommandCode = 19
	DirOverrideParameters CommandCode = 20
	DirFetch              CommandCode = 21
	DirCopy               CommandCode = 22
	DirInvoke             CommandCode = 23
	DirWait               CommandCode = 29
	DirSwap               CommandCode = 31
	DirRunSequence        CommandCode = 32
	DirUnlink             CommandCode = 33
	DirOverrideMultiple   CommandCode = 34
	DirCopyParams         CommandCode = 35
)

// customCommands is the highest label for private use: "values −256 and below" (SUIT §11).
const customCommands = -256

// String names the command as the texts do, without the "suit-" prefix.
func (c CommandCode) String() string { return nameOf(commandNames, int64(c)) }

// IsCondition tells whether the command is a test. Custom commands are neither.
func (c CommandCode) IsCondition() bool {
	switch c {
	case CondVendorIdentifier, CondClassIdentifier, CondImageMatch, CondUseBefore, CondComponentSlot,
		CondCheckContent, CondDependencyIntegrity, CondIsDependency, CondAbort, CondDeviceIdentifier,
		CondImageNotMatch, CondMinimumBattery, CondUpdateAuthorized, CondVersion:
		return true
	}
	return false
}

// IsCustom tells whether the code is from the private-use range.
func (c CommandCode) IsCustom() bool { return c <= customCommands }

// ParameterLabel identifies a parameter (SUIT §11.5). Negative labels are custom parameters.
type ParameterLabel int64

// Parameters of the six texts.
const (
	ParamVendorIdentifier  ParameterLabel = 1
	ParamClassIdentifier   ParameterLabel = 2
	ParamImageDigest       ParameterLabel = 3
	ParamUseBefore         ParameterLabel = 4
	ParamComponentSlot     ParameterLabel = 5
	ParamStrictOrder       ParameterLabel = 12
	ParamSoftFailure       ParameterLabel = 13
	ParamImageSize         ParameterLabel = 14
	ParamContent           ParameterLabel = 18
	ParamEncryptionInfo    ParameterLabel = 19
	ParamURI               ParameterLabel = 21
	ParamSourceComponent   ParameterLabel = 22
	ParamInvokeArgs        ParameterLabel = 23
	ParamDeviceIdentifier  ParameterLabel = 24
	ParamFetchArguments    ParameterLabel = 25
	ParamMinimumBattery    ParameterLabel = 26
	ParamUpdatePriority    ParameterLabel = 27
	ParamVersion           ParameterLabel = 28
	ParamWaitInfo          ParameterLabel = 29
	ParamComponentMetadata ParameterLabel = 30
)

// String names the parameter as the texts do, without "suit-parameter-".
func (p ParameterLabel) String() string { return nameOf(parameterNames, int64(p)) }

// ReportingPolicy is SUIT_Rep_Policy, the hints of SUIT §8.4.7.
type ReportingPolicy uint64

// Bits of a reporting policy.
const (
	ReportRecordOnSuccess  ReportingPolicy = 1 << 0
	ReportRecordOnFailure  ReportingPolicy = 1 << 1
	ReportSysinfoOnSuccess ReportingPolicy = 1 << 2
	ReportSysinfoOnFailure ReportingPolicy = 1 << 3
	// ReportAll asks for everything.
	ReportAll ReportingPolicy = 15
)

func nameOf(names map[int64]string, label int64) string {
	if name, ok := names[label]; ok {
		return name
	}
	if label < 0 {
		return "custom(" + strconv.FormatInt(label, 10) + ")"
	}
	return "unknown(" + strconv.FormatInt(label, 10) + ")"
}

// The tables are read only. Their text is what the texts call each label, shortened.
var manifestNames = map[int64]string{
	1: "manifest-version", 2: "manifest-sequence-number", 3: "common", 4: "reference-uri",
	5: "manifest-component-id", 6: "set-version", 7: "validate", 8: "load", 9: "invoke", 14: "coswid",
	15: "dependency-resolution", 16: "payload-fetch", 18: "candidate-verification", 20: "install",
	23: "text", 24: "uninstall",
}

var commandNames = map[int64]string{
	1: "condition-vendor-identifier", 2: "condition-class-identifier", 3: "condition-image-match",
	4: "condition-use-before", 5: "condition-component-slot", 6: "condition-check-content",
	7: "condition-dependency-integrity", 8: "condition-is-dependency", 11: "directive-process-dependency",
	12: "directive-set-component-index", 14: "condition-abort", 15: "directive-try-each", 18: "directive-write",
	19: "directive-set-parameters", 20: "directive-override-parameters", 21: "directive-fetch",
	22: "directive-copy", 23: "directive-invoke", 24: "condition-device-identifier",
	25: "condition-image-not-match", 26: "condition-minimum-battery", 27: "condition-update-authorized",
	28: "condition-version", 29: "directive-wait", 31: "directive-swap", 32: "directive-run-sequence",
	33: "directive-unlink", 34: "directive-override-multiple", 35: "directive-copy-params",
}

var parameterNames = map[int64]string{
	1: "vendor-identifier", 2: "class-identifier", 3: "image-digest", 4: "use-before", 5: "component-slot",
	12: "strict-order", 13: "soft-failure", 14: "image-size", 18: "content", 19: "encryption-info", 21: "uri",
	22: "source-component", 23: "invoke-args", 24: "device-identifier", 25: "fetch-arguments",
	26: "minimum-battery", 27: "update-priority", 28: "version", 29: "wait-info", 30: "component-metadata",
}
