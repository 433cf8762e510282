// Package tsm has the processor of a confidential virtual machine report, through the one interface
// that Linux offers its guests: configfs-tsm (Documentation/ABI/testing/configfs-tsm-report,
// kernel 6.7 and later). It implements [bound.Reporter] for AMD SEV-SNP and Intel TDX, and needs
// /sys/kernel/config to be mounted. It was tried with a stand-in for configfs; it has not run on such a
// processor yet.
package tsm

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/linuxtsm"
	"github.com/google/go-configfs-tsm/report"

	"github.com/go-teep/teep/attest/bound"
)

// ErrUnavailable says that this machine is no confidential guest that can report.
var ErrUnavailable = errors.New("tsm: no confidential guest")

// Reporter asks the kernel. It is safe for concurrent use: every report is an entry of its own.
type Reporter struct {
	client    configfsi.Client
	mediaType string
}

var _ bound.Reporter = (*Reporter)(nil)

// Open finds out which processor is there, by having it report once. The error is ErrUnavailable
// where there is none.
func Open() (*Reporter, error) {
	client, err := linuxtsm.MakeClient()
	if err != nil {
		return nil, fmt.Errorf("%w: %w; mount configfs, and check that the machine was started with SEV-SNP or TDX", ErrUnavailable, err)
	}
	return New(client)
}

// New is Open for another way to the interface.
func New(client configfsi.Client) (*Reporter, error) {
	r := &Reporter{client: client}
	resp, err := r.get(bound.Binding{}, false)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if r.mediaType, err = mediaType(resp.Provider); err != nil {
		return nil, err
	}
	return r, nil
}

// Names that the kernel gives its providers.
const providerSEV, providerTDX = "sev_guest", "tdx_guest"

func mediaType(provider string) (string, error) {
	switch strings.TrimSpace(provider) {
	case providerSEV:
		return bound.SEVSNPReport, nil
	case providerTDX:
		return bound.TDXQuote, nil
	}
	return "", fmt.Errorf("%w: reports of %.40q are not known here", ErrUnavailable, provider)
}

func (r *Reporter) get(b bound.Binding, certificates bool) (*report.Response, error) {
	return report.Get(r.client, &report.Request{InBlob: b[:], GetAuxBlob: certificates})
}

// MediaType implements [bound.Reporter].
func (r *Reporter) MediaType() string { return r.mediaType }

// Report implements [bound.Reporter]. The report of SEV-SNP is followed by the certificates that
// the host provides; without any, the verifier must have them.
func (r *Reporter) Report(ctx context.Context, b bound.Binding) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	resp, err := r.get(b, r.mediaType == bound.SEVSNPReport)
	if err != nil {
		return nil, fmt.Errorf("tsm: %w", err)
	}
	if now, err := mediaType(resp.Provider); err != nil || now != r.mediaType {
		return nil, fmt.Errorf("tsm: the kernel's provider became %.40q", resp.Provider)
	}
	return append(resp.OutBlob, resp.AuxBlob...), nil
}
