// Package policy says which devices should have which Trusted Components, and how fast changes reach
// them. It is the pure part of that: no store, no clock of its own, no I/O. Package tam keeps the
// records, knows the devices, and asks.
//
// # Groups
//
// A [Group] is a condition in CEL, the Common Expression Language, over what is known of a device
// ([Facts]: attested claims, labels, inventory), and what its devices must have, may have on request,
// or must not have:
//
//	{"name": "edge", "match": "labels[?\"site\"].orValue(\"\") == \"lab\" && oemid == \"pen:3704\"",
//	 "components": [{"manifest": "'acme'/'app'", "mode": "required"}]}
//
// A condition that cannot be evaluated for a device (a label that it does not have, say) does not hold
// for it. Conditions are checked for syntax, names and types when they are saved, and what evaluating
// one may cost is limited.
//
// # Which word counts
//
// For one manifest on one device, the first of these that says something decides:
//
//  1. an emergency [Removal] that applies to the device;
//  2. an assignment that names the device by its ID;
//  3. the group of the highest priority among those that the device is in; within one priority
//     forbidden before required before available;
//  4. the assignment for all devices;
//  5. available: on request.
//
// Contradictions that this order would decide silently are refused when a group is saved: see
// [Conflicts].
//
// # Rollouts
//
// A [Rollout] brings one version to devices in stages. [Rollout.Act] is what people do with it,
// [Rollout.Advance] what time and devices do; both return a new value and change nothing.
package policy
