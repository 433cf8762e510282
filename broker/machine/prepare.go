package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Prepare makes what the machine needs before its first start: the disk with the sealed state, and
// the emulated TPM. What is there already stays.
func (c *Config) Prepare(ctx context.Context) error {
	if err := c.Missing(); err != nil {
		return err
	}
	for _, name := range []string{kernelFile, initramfsFile, commandLineFile} {
		if _, err := os.Stat(filepath.Join(c.Image, name)); err != nil {
			return fmt.Errorf("machine: the image is not complete: %w: make it with 'make vm-image' or 'teep image build'", err)
		}
	}
	if c.Approvals != "" {
		if _, err := os.Stat(c.Approvals); err != nil {
			return fmt.Errorf("machine: approvals: %w", err)
		}
	}
	if err := os.MkdirAll(c.Run, 0o700); err != nil {
		return fmt.Errorf("machine: %w", err)
	}
	if err := c.makeState(ctx); err != nil {
		return fmt.Errorf("machine: make the disk with the sealed state: %w", err)
	}
	if c.TPM == TPMEmulated {
		if err := c.makeTPM(ctx); err != nil {
			return fmt.Errorf("machine: make the emulated TPM: %w", err)
		}
	}
	return nil
}

// makeState makes the disk with an empty file system. It gets its name when it is complete.
func (c *Config) makeState(ctx context.Context) (err error) {
	if _, err := os.Stat(c.State); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(c.State), 0o700); err != nil {
		return err
	}
	temporary := c.State + ".tmp"
	f, err := os.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(c.StateBytes); err != nil {
		return err
	}
	// No blocks reserved for an administrator: the agent is the only one there.
	if err := run(ctx, "mkfs.ext4", "-q", "-F", "-m", "0", "-L", stateDisk, temporary); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(temporary, c.State); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(c.State))
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// run runs a program to its end. The error has what it printed.
func run(ctx context.Context, program string, args ...string) error {
	name, err := find(program)
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(string(bytes.ToValidUTF8(out, nil))))
	}
	return nil
}

// Authority is the folder, in TPMState, of the authority that certifies the emulated TPM's endorsement
// key. Its root is what an owner accepts as the maker of the TPM.
const Authority = "authority"

// makeTPM makes a TPM with an endorsement key that an authority of its own certifies, as makers of TPMs
// do it. The folder gets its name when it is complete.
func (c *Config) makeTPM(ctx context.Context) error {
	if _, err := os.Stat(c.TPMState); err == nil {
		return nil
	}
	temporary := c.TPMState + ".tmp"
	if err := os.RemoveAll(temporary); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(temporary, Authority), 0o700); err != nil {
		return err
	}
	authority := filepath.Join(temporary, Authority)
	localca, err := find("swtpm_localca")
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"localca.conf": fmt.Sprintf("statedir = %[1]s\nsigningkey = %[1]s/key.pem\nissuercert = %[1]s/issuer.pem\ncertserial = %[1]s/serial\n", authority),
		"options":      "--platform-manufacturer go-teep\n--platform-version 1\n--platform-model emulated\n",
		"setup.conf": fmt.Sprintf("create_certs_tool = %s\ncreate_certs_tool_config = %[2]s/localca.conf\ncreate_certs_tool_options = %[2]s/options\n",
			localca, authority),
	} {
		if err := os.WriteFile(filepath.Join(authority, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := run(ctx, "swtpm_setup", "--tpm2", "--tpmstate", temporary, "--create-ek-cert", "--pcr-banks", "sha256",
		"--config", filepath.Join(authority, "setup.conf")); err != nil {
		return err
	}
	return os.Rename(temporary, c.TPMState)
}

// refreshVariables gives the firmware its variables as they come with it: what one boot left in them
// does not decide the next.
func (c *Config) refreshVariables() error {
	if c.TPM == "" || c.FirmwareVariables == NoVariables {
		return nil
	}
	from, err := os.Open(c.FirmwareVariables)
	if err != nil {
		return err
	}
	to, err := os.OpenFile(c.variables(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return errors.Join(err, from.Close())
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close(), from.Close())
}
