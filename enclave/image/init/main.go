//go:build linux

// Command init is the first process of the measured guest image: it mounts what
// the enclave reads, loads the kernel's modules, runs the enclave, and powers
// the machine off when it ends, however it ends.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	err := run()
	fmt.Println("init: the enclave ended:", err)
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		panic(err) // the kernel panics with its first process, and restarts
	}
}

func run() error {
	for _, m := range []struct {
		kind, at string
	}{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := unix.Mount(m.kind, m.at, m.kind, unix.MS_NOSUID|unix.MS_NOEXEC, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	// The host types on the console: it must not make the kernel print registers and memory.
	if err := os.WriteFile("/proc/sys/kernel/sysrq", []byte("0"), 0); err != nil {
		return err
	}
	modules, err := filepath.Glob("/modules/*.ko.xz")
	if err != nil {
		return err
	}
	for _, path := range modules { // sorted
		if err := load(path); err != nil {
			// One of the two is for other hardware; without both the enclave refuses.
			if errors.Is(err, unix.ENODEV) && (strings.HasSuffix(path, "-sev-guest.ko.xz") || strings.HasSuffix(path, "-tdx-guest.ko.xz")) {
				continue
			}
			return fmt.Errorf("load %s: %w", path, err)
		}
	}
	if err := unix.Mount("configfs", "/sys/kernel/config", "configfs", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("mount /sys/kernel/config: %w", err)
	}
	c := exec.Command("/bombyx-enclave", "serve", "--config", "/enclave.json")
	c.Dir, c.Stdout, c.Stderr = "/", os.Stdout, os.Stderr
	c.Env = []string{"GODEBUG=schedtrace=2147483647"} // for speed: docs/operating.md, Services
	if err := c.Run(); err != nil {
		return err
	}
	return errors.New("it stopped serving")
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", unix.MODULE_INIT_COMPRESSED_FILE)
}
