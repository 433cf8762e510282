package machine

import "syscall"

// dieWithParent has the kernel end a program with the one that started it, however that ends.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
