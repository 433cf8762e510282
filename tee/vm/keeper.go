package vm

// Keeper is who keeps the boundary around the machine.
type Keeper struct {
	// Processor says that the processor does, by encrypting the machine's memory, and reports so.
	Processor bool
	// Measured says that the Evidence tells what the machine booted, by hardware.
	Measured bool
}

// Weaknesses says in words what the boundary does not keep out, for the Evidence.
func (k Keeper) Weaknesses() []string {
	w := []string{"one process in the machine: what breaks out of the runtime of applications has the agent's keys"}
	if !k.Processor {
		w = append(w, "boundary kept by the hypervisor: the administrator of the host can read the machine's memory")
	}
	if !k.Measured {
		w = append(w, "measurement of the agent by the agent itself: not rooted in hardware")
	}
	return w
}
