// Package image assembles the measured guest image: an initial RAM disk that
// holds the enclave's program, its configuration, a model, the modules of
// Debian's kernel that they need, and a first process. Nothing else is in it: no
// shell, no network, no package manager. "make image" builds it, and equal
// sources give equal bytes: times and owners are zero, and files are in the
// order of their names.
package image

import (
	"bytes"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/bombyx-network/bombyx/attestation/measure"
	"github.com/bombyx-network/bombyx/enclave/launch"
)

// Cmdline is the kernel's command line. A kernel that panics restarts at once:
// the host sees it, and nothing waits in a broken guest.
const Cmdline = "console=ttyS0 quiet panic=-1"

// Modules lists the kernel's modules, below its "kernel" directory and in the
// order in which they are loaded: configfs-tsm, the AES-GCM that SEV-SNP's
// guest messages take, the two kinds of guest, and vsock to the host.
var Modules = []string{
	"fs/configfs/configfs",
	"drivers/virt/coco/tsm",
	"crypto/crypto_null",
	"lib/crypto/gf128mul",
	"crypto/ghash-generic",
	"crypto/gcm",
	"drivers/virt/coco/sev-guest/sev-guest",
	"drivers/virt/coco/tdx-guest/tdx-guest",
	"net/vmw_vsock/vsock",
	"net/vmw_vsock/vmw_vsock_virtio_transport_common",
	"net/vmw_vsock/vmw_vsock_virtio_transport",
}

// Parts is what goes into an image, each as the bytes of a file.
type Parts struct {
	Init    []byte            // the first process, package image/init
	Enclave []byte            // cmd/bombyx-enclave, static
	Config  []byte            // enclave.json
	Model   []byte            // what the configuration's engine.file names; nil for the model that ships
	Modules map[string][]byte // by name as in [Modules], compressed with xz
}

// Initrd returns the initial RAM disk of these parts. It refuses a configuration
// that could not serve in it.
func Initrd(p *Parts) ([]byte, error) {
	c, err := launch.Parse(p.Config)
	if err != nil {
		return nil, err
	}
	switch model := c.Engine.File; {
	case c.Engine.Kind != "embedded":
		return nil, fmt.Errorf("engine: the image holds no other server than the embedded one, and the configuration asks for %q", c.Engine.Kind)
	case c.GPUs != 0 || c.Switches != 0:
		return nil, fmt.Errorf("the image holds no driver for GPUs, and the configuration promises %d and %d switches", c.GPUs, c.Switches)
	case !strings.HasPrefix(c.Listen, "vsock:"):
		return nil, fmt.Errorf("listen: the host reaches the guest by vsock:PORT alone, not by %q", c.Listen)
	case (model == "") != (p.Model == nil):
		return nil, fmt.Errorf("engine.file is %q, and a model is given: %t", model, p.Model != nil)
	case model != "" && (path.Clean(model) != model || path.Dir(model) != "/" || len(model) < 2):
		return nil, fmt.Errorf("engine.file: %q is not a file in the root directory", model)
	}
	files := []file{
		{"dev", directory, nil}, {"proc", directory, nil}, {"sys", directory, nil}, {"modules", directory, nil},
		{"init", program, p.Init}, {"bombyx-enclave", program, p.Enclave}, {"enclave.json", plain, p.Config},
	}
	if p.Model != nil {
		files = append(files, file{c.Engine.File[1:], plain, p.Model})
	}
	for i, name := range Modules {
		if len(p.Modules[name]) == 0 {
			return nil, fmt.Errorf("no module %s", name)
		}
		files = append(files, file{fmt.Sprintf("modules/%02d-%s.ko.xz", i, path.Base(name)), plain, p.Modules[name]})
	}
	var b bytes.Buffer
	if err := archive(&b, files); err != nil {
		return nil, err
	}
	if b.Len() > measure.MaxInitrd {
		return nil, fmt.Errorf("an initrd of %d bytes, limit %d: the model is too large for this image", b.Len(), measure.MaxInitrd)
	}
	return b.Bytes(), nil
}

// Types and permissions of files.
const (
	directory = 0o040755
	program   = 0o100755
	plain     = 0o100644
)

type file struct {
	name string
	mode uint32
	data []byte
}

// archive writes a cpio archive in the "newc" format (Linux,
// Documentation/driver-api/early-userspace/buffer-format.rst).
func archive(w io.Writer, files []file) error {
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	for i, f := range append(files, file{"TRAILER!!!", 0, nil}) {
		if i > 0 && i < len(files) && files[i-1].name == f.name {
			return fmt.Errorf("the file %s is there twice", f.name)
		}
		links := 1
		if f.mode == directory {
			links = 2
		}
		// Magic; inode, mode, owner, group, links, time, size, device and device of the file (major, minor), length of the name, checksum.
		head := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
			i+1, f.mode, 0, 0, links, 0, len(f.data), 0, 0, 0, 0, len(f.name)+1, 0, f.name)
		if _, err := io.WriteString(w, head+padding(len(head))); err != nil {
			return err
		}
		if _, err := w.Write(f.data); err != nil {
			return err
		}
		if _, err := io.WriteString(w, padding(len(f.data))); err != nil {
			return err
		}
	}
	return nil
}

func padding(n int) string { return "\x00\x00\x00"[:(4-n%4)%4] }
