// Package inside is a test that is the first process of a virtual machine: its binary is put into an
// image in the place of the agent, and runs there what holds every TEE to its promises. Package e2e/vm
// boots it and reads the outcome from the console.
package inside
