package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-teep/teep/broker/machine"
	"github.com/go-teep/teep/internal/config"
)

// configuration is broker.yaml. Paths are relative to the file.
type configuration struct {
	TEEs []struct {
		Name       string            `yaml:"name"`
		Socket     string            `yaml:"socket"`
		VM         *virtualMachine   `yaml:"vm"`
		Properties map[string]string `yaml:"properties"`
	} `yaml:"tees"`
	Apps struct {
		Socket string `yaml:"socket"`
	} `yaml:"apps"`
	// Needs is the file that remembers which app needs which component. Empty: beside the socket.
	Needs string `yaml:"needs"`
	// PolicyInterval is the time between policy checks; 0s switches the timer off.
	PolicyInterval time.Duration `yaml:"policy-interval"`
	HTTP           client        `yaml:"http"`
	// Verifier appraises the agents' Evidence where they present Attestation Results.
	Verifier verifier `yaml:"verifier"`
	// Supplies are brought to the agents.
	Supplies supplies `yaml:"supplies"`
	// Endpoints let TAMs connect to agents, where those are reachable and TAMs are not.
	Endpoints []endpoint `yaml:"endpoints"`
}

// virtualMachine is a TEE that this broker starts. machine.Config explains the keys.
type virtualMachine struct {
	Image             string   `yaml:"image"`
	State             string   `yaml:"state"`
	StateBytes        int64    `yaml:"state-bytes"`
	Approvals         string   `yaml:"approvals"`
	Run               string   `yaml:"run"`
	MemoryMiB         int      `yaml:"memory-mib"`
	Machine           string   `yaml:"machine"`
	Accelerator       string   `yaml:"accelerator"`
	TPM               string   `yaml:"tpm"`
	TPMState          string   `yaml:"tpm-state"`
	Firmware          string   `yaml:"firmware"`
	FirmwareVariables string   `yaml:"firmware-variables"`
	VsockCID          uint32   `yaml:"vsock-cid"`
	Ports             int      `yaml:"ports"`
	Arguments         []string `yaml:"qemu-arguments"`
}

// relative makes the paths relative to the configuration, and gives those a default that are nobody
// else's business.
func (v *virtualMachine) relative(path, name string) {
	if v.Run == "" {
		v.Run = name + ".run"
	}
	if v.TPM == machine.TPMEmulated && v.TPMState == "" {
		v.TPMState = name + ".tpm"
	}
	for _, p := range []*string{&v.Image, &v.State, &v.Approvals, &v.Run, &v.TPMState, &v.Firmware, &v.FirmwareVariables} {
		if p != &v.FirmwareVariables || *p != machine.NoVariables {
			*p = config.Relative(path, *p)
		}
	}
}

func (v *virtualMachine) config() machine.Config {
	return machine.Config{
		Image: v.Image, State: v.State, StateBytes: v.StateBytes, Approvals: v.Approvals,
		Run: v.Run, MemoryMiB: v.MemoryMiB, Machine: v.Machine,
		Accelerator: v.Accelerator, TPM: v.TPM, TPMState: v.TPMState, Firmware: v.Firmware, FirmwareVariables: v.FirmwareVariables,
		CID: v.VsockCID, Ports: v.Ports, Arguments: v.Arguments,
	}
}

func load(path string) (*configuration, error) {
	c := &configuration{PolicyInterval: 24 * time.Hour}
	if err := config.Load(path, c); err != nil {
		return nil, err
	}
	if len(c.TEEs) == 0 {
		return nil, fmt.Errorf("%s: tees is empty: name the socket of one TEEP Agent at least", path)
	}
	for i := range c.TEEs {
		if c.TEEs[i].Name == "" || (c.TEEs[i].Socket == "") == (c.TEEs[i].VM == nil) {
			return nil, fmt.Errorf("%s: entry %d of tees needs a name, and either a socket or a vm", path, i+1)
		}
		c.TEEs[i].Socket = config.Relative(path, c.TEEs[i].Socket)
		if v := c.TEEs[i].VM; v != nil {
			v.relative(path, c.TEEs[i].Name)
		}
	}
	if c.Apps.Socket == "" {
		return nil, fmt.Errorf("%s: apps.socket is missing: name the socket that apps talk to", path)
	}
	if c.PolicyInterval < 0 {
		return nil, fmt.Errorf("%s: policy-interval is negative; 0s switches the timer off", path)
	}
	c.Apps.Socket = config.Relative(path, c.Apps.Socket)
	if c.Needs = config.Relative(path, c.Needs); c.Needs == "" {
		c.Needs = c.Apps.Socket + ".needs"
	}
	c.HTTP.CAFile = config.Relative(path, c.HTTP.CAFile)
	c.Verifier.CAFile = config.Relative(path, c.Verifier.CAFile)
	if err := errors.Join(c.HTTP.check(), c.Verifier.check(), c.Supplies.resolve(path)); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, c.checkEndpoints(path)
}
