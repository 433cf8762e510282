package suit

import (
	"github.com/go-teep/teep/suit/internal/scan"
)

// value reads a parameter whose type was checked when it was set; errors cannot occur.
func value[T any](p Parameters, label ParameterLabel, read func(*scan.Reader) (T, error)) (T, bool) {
	raw, ok := p.Raw(label)
	if !ok {
		var zero T
		return zero, false
	}
	r := scan.New(raw)
	v, err := read(&r)
	return v, err == nil
}

// wrapped is value for objects inside a byte string.
func wrapped[T any](p Parameters, label ParameterLabel, read func(*scan.Reader) (T, error)) (T, bool) {
	return value(p, label, func(r *scan.Reader) (T, error) {
		content, err := r.Bytes()
		if err != nil {
			var zero T
			return zero, err
		}
		inner := scan.New(content)
		return read(&inner)
	})
}

// VendorID is suit-parameter-vendor-identifier.
func (p Parameters) VendorID() (VendorID, bool) {
	return value(p, ParamVendorIdentifier, readVendorID)
}

// ClassID is suit-parameter-class-identifier.
func (p Parameters) ClassID() (UUID, bool) { return value(p, ParamClassIdentifier, readUUID) }

// DeviceID is suit-parameter-device-identifier.
func (p Parameters) DeviceID() (UUID, bool) { return value(p, ParamDeviceIdentifier, readUUID) }

// Digest is suit-parameter-image-digest.
func (p Parameters) Digest() (Digest, bool) { return wrapped(p, ParamImageDigest, readDigest) }

// Size is suit-parameter-image-size, in bytes.
func (p Parameters) Size() (uint64, bool) { return value(p, ParamImageSize, (*scan.Reader).Uint) }

// Slot is suit-parameter-component-slot.
func (p Parameters) Slot() (uint64, bool) { return value(p, ParamComponentSlot, (*scan.Reader).Uint) }

// StrictOrder is suit-parameter-strict-order.
func (p Parameters) StrictOrder() (v, ok bool) {
	return value(p, ParamStrictOrder, (*scan.Reader).Bool)
}

// SoftFailure is suit-parameter-soft-failure.
func (p Parameters) SoftFailure() (v, ok bool) {
	return value(p, ParamSoftFailure, (*scan.Reader).Bool)
}

// Content is suit-parameter-content.
func (p Parameters) Content() ([]byte, bool) { return value(p, ParamContent, (*scan.Reader).Bytes) }

// EncryptionInfo is suit-parameter-encryption-info: an encoded, tagged COSE_Encrypt.
func (p Parameters) EncryptionInfo() ([]byte, bool) {
	return value(p, ParamEncryptionInfo, (*scan.Reader).Bytes)
}

// URI is suit-parameter-uri.
func (p Parameters) URI() (string, bool) {
	s, ok := value(p, ParamURI, (*scan.Reader).Text)
	return string(s), ok
}

// SourceComponent is suit-parameter-source-component, an index into the components.
func (p Parameters) SourceComponent() (uint64, bool) {
	return value(p, ParamSourceComponent, (*scan.Reader).Uint)
}

// InvokeArgs is suit-parameter-invoke-args.
func (p Parameters) InvokeArgs() ([]byte, bool) {
	return value(p, ParamInvokeArgs, (*scan.Reader).Bytes)
}

// FetchArguments is suit-parameter-fetch-arguments.
func (p Parameters) FetchArguments() ([]byte, bool) {
	return value(p, ParamFetchArguments, (*scan.Reader).Bytes)
}

// UseBefore is suit-parameter-use-before, in seconds since 1970-01-01 UTC.
func (p Parameters) UseBefore() (uint64, bool) { return value(p, ParamUseBefore, (*scan.Reader).Uint) }

// MinimumBattery is suit-parameter-minimum-battery, in milliwatt-hours (update management §5.2).
func (p Parameters) MinimumBattery() (uint64, bool) {
	return value(p, ParamMinimumBattery, (*scan.Reader).Uint)
}

// UpdatePriority is suit-parameter-update-priority; smaller is more urgent.
func (p Parameters) UpdatePriority() (int64, bool) {
	return value(p, ParamUpdatePriority, (*scan.Reader).Int)
}

// Version is suit-parameter-version.
func (p Parameters) Version() (VersionMatch, bool) { return wrapped(p, ParamVersion, readVersionMatch) }

// WaitInfo is suit-parameter-wait-info.
func (p Parameters) WaitInfo() (WaitEvent, bool) { return wrapped(p, ParamWaitInfo, readWaitEvent) }

// ComponentMetadata is suit-parameter-component-metadata.
func (p Parameters) ComponentMetadata() (ComponentMetadata, bool) {
	return wrapped(p, ParamComponentMetadata, readMetadata)
}

// SetVendorID sets suit-parameter-vendor-identifier.
func (p *Parameters) SetVendorID(v VendorID) { p.set(ParamVendorIdentifier, v.appendCBOR(nil)) }

// SetClassID sets suit-parameter-class-identifier.
func (p *Parameters) SetClassID(u UUID) { p.set(ParamClassIdentifier, appendBytes(nil, u[:])) }

// SetDeviceID sets suit-parameter-device-identifier.
func (p *Parameters) SetDeviceID(u UUID) { p.set(ParamDeviceIdentifier, appendBytes(nil, u[:])) }

// SetDigest sets suit-parameter-image-digest.
func (p *Parameters) SetDigest(d Digest) {
	p.set(ParamImageDigest, appendBytes(nil, d.appendCBOR(nil)))
}

// SetSize sets suit-parameter-image-size, in bytes.
func (p *Parameters) SetSize(n uint64) { p.set(ParamImageSize, appendUint(nil, n)) }

// SetSlot sets suit-parameter-component-slot.
func (p *Parameters) SetSlot(n uint64) { p.set(ParamComponentSlot, appendUint(nil, n)) }

// SetStrictOrder sets suit-parameter-strict-order.
func (p *Parameters) SetStrictOrder(v bool) { p.set(ParamStrictOrder, encodeBool(v)) }

// SetSoftFailure sets suit-parameter-soft-failure.
func (p *Parameters) SetSoftFailure(v bool) { p.set(ParamSoftFailure, encodeBool(v)) }

// SetContent sets suit-parameter-content.
func (p *Parameters) SetContent(b []byte) { p.set(ParamContent, appendBytes(nil, b)) }

// SetEncryptionInfo sets suit-parameter-encryption-info to an encoded, tagged COSE_Encrypt.
func (p *Parameters) SetEncryptionInfo(info []byte) error {
	return p.SetRaw(ParamEncryptionInfo, appendBytes(nil, info))
}

// SetURI sets suit-parameter-uri.
func (p *Parameters) SetURI(uri string) { p.set(ParamURI, appendText(nil, uri)) }

// SetSourceComponent sets suit-parameter-source-component.
func (p *Parameters) SetSourceComponent(index uint64) {
	p.set(ParamSourceComponent, appendUint(nil, index))
}

// SetInvokeArgs sets suit-parameter-invoke-args.
func (p *Parameters) SetInvokeArgs(b []byte) { p.set(ParamInvokeArgs, appendBytes(nil, b)) }

// SetFetchArguments sets suit-parameter-fetch-arguments.
func (p *Parameters) SetFetchArguments(b []byte) { p.set(ParamFetchArguments, appendBytes(nil, b)) }

// SetUseBefore sets suit-parameter-use-before, in seconds since 1970-01-01 UTC.
func (p *Parameters) SetUseBefore(t uint64) { p.set(ParamUseBefore, appendUint(nil, t)) }

// SetMinimumBattery sets suit-parameter-minimum-battery, in milliwatt-hours.
func (p *Parameters) SetMinimumBattery(mWh uint64) {
	p.set(ParamMinimumBattery, appendUint(nil, mWh))
}

// SetUpdatePriority sets suit-parameter-update-priority.
func (p *Parameters) SetUpdatePriority(v int64) { p.set(ParamUpdatePriority, appendInt(nil, v)) }

// SetVersion sets suit-parameter-version.
func (p *Parameters) SetVersion(m VersionMatch) error {
	return p.SetRaw(ParamVersion, appendBytes(nil, m.appendCBOR(nil)))
}

// SetWaitInfo sets suit-parameter-wait-info.
func (p *Parameters) SetWaitInfo(w WaitEvent) error {
	return p.SetRaw(ParamWaitInfo, appendBytes(nil, w.appendCBOR(nil)))
}

// SetComponentMetadata sets suit-parameter-component-metadata.
func (p *Parameters) SetComponentMetadata(m ComponentMetadata) error {
	return p.SetRaw(ParamComponentMetadata, appendBytes(nil, m.appendCBOR(nil)))
}

func encodeBool(v bool) []byte {
	if v {
		return []byte{0xf5}
	}
	return []byte{0xf4}
}
