package sevsnp

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-sev-guest/abi"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/uuid"
)

// maxCertificates bounds the certificate table.
const maxCertificates = 16

// parse splits the guest device's answer into the report and the certificates by GUID (GHCB
// specification §4.1.8.1).
func parse(data []byte) (*spb.Report, map[string][]byte, error) {
	if len(data) < abi.ReportSize || len(data) > MaxReportBytes {
		return nil, nil, fmt.Errorf("%d bytes, %d to %d are possible", len(data), abi.ReportSize, MaxReportBytes)
	}
	raw := data[:abi.ReportSize]
	if err := abi.ValidateReportFormat(raw); err != nil {
		return nil, nil, err
	}
	report, err := abi.ReportToProto(raw)
	if err != nil {
		return nil, nil, err
	}
	certs, err := parseCertificates(data[abi.ReportSize:])
	return report, certs, err
}

// parseCertificates reads the table by itself: go-sev-guest adds offset and length in 32 bits, so
// that a hostile table makes it slice out of bounds.
//
//	table = *( guid[16] offset[4] length[4] ) zero[24] certificates
func parseCertificates(table []byte) (map[string][]byte, error) {
	certs := map[string][]byte{}
	for i := range maxCertificates + 1 {
		at := i * abi.CertTableEntrySize
		if len(table) == 0 {
			return certs, nil
		}
		if at+abi.CertTableEntrySize > len(table) {
			return nil, errors.New("the certificate table does not end")
		}
		entry := table[at : at+abi.CertTableEntrySize]
		guid := uuid.UUID(entry[:abi.GUIDSize])
		offset, length := uint64(binary.LittleEndian.Uint32(entry[16:])), uint64(binary.LittleEndian.Uint32(entry[20:]))
		if guid == uuid.Nil && offset == 0 && length == 0 {
			return certs, nil
		}
		if offset+length > uint64(len(table)) || length == 0 {
			return nil, fmt.Errorf("certificate %s lies outside of the table", guid)
		}
		if _, twice := certs[guid.String()]; twice {
			return nil, fmt.Errorf("certificate %s is there twice", guid)
		}
		certs[guid.String()] = table[offset : offset+length]
	}
	return nil, fmt.Errorf("the certificate table has more than %d entries", maxCertificates)
}
