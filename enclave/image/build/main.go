// Command build writes the measured guest image into a directory: vmlinuz,
// initrd and cmdline, which QEMU takes with -kernel, -initrd and -append.
// "make image" runs it.
package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/attestation/measure"
	"github.com/bombyx-network/bombyx/enclave/image"
	"github.com/bombyx-network/bombyx/enclave/launch"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/cli/command"
)

func main() { command.Main(root()) }

func root() *cobra.Command {
	var deb, initProgram, enclave, config, model, out string
	c := &cobra.Command{Use: "build", Short: "Assemble the measured guest image", Args: cobra.NoArgs}
	f := c.Flags()
	f.StringVar(&deb, "kernel", "", "Debian's kernel package")
	f.StringVar(&initProgram, "init", "", "the first process")
	f.StringVar(&enclave, "enclave", "", "bombyx-enclave, static")
	f.StringVar(&config, "config", "", "the enclave's configuration")
	f.StringVar(&model, "model", "", "what its engine.file names")
	f.StringVar(&out, "out", "", "where the image goes")
	for _, name := range []string{"kernel", "init", "enclave", "config", "out"} {
		c.MarkFlagRequired(name)
	}
	c.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		var p image.Parts
		for _, x := range []struct {
			to    *[]byte
			path  string
			limit int64
		}{{&p.Init, initProgram, measure.MaxInitrd}, {&p.Enclave, enclave, measure.MaxInitrd}, {&p.Config, config, launch.MaxConfig}, {&p.Model, model, measure.MaxInitrd}} {
			if x.path == "" {
				continue
			}
			if *x.to, err = cli.ReadFile(x.path, x.limit); err != nil {
				return err
			}
		}
		kernel, modules, err := unpack(cmd, deb)
		if err != nil {
			return cli.Errorf(cli.Usage, "is it the package that the Makefile names?", "%s: %w", deb, err)
		}
		p.Modules = modules
		initrd, err := image.Initrd(&p)
		if err != nil {
			return cli.Errorf(cli.Usage, "docs/operating.md says what an image can serve", "%s: %w", config, err)
		}
		for _, x := range []struct {
			name string
			data []byte
		}{{"vmlinuz", kernel}, {"initrd", initrd}, {"cmdline", []byte(image.Cmdline)}} {
			if err := os.WriteFile(filepath.Join(out, x.name), x.data, 0o644); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%x  %s\n", sha256.Sum256(x.data), x.name)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%x  enclave build\n%x  enclave configuration\n", sha256.Sum256(p.Enclave), sha256.Sum256(p.Config))
		return nil
	}
	return c
}

// unpack takes the kernel and the modules of the image out of a Debian package.
func unpack(cmd *cobra.Command, deb string) (kernel []byte, modules map[string][]byte, err error) {
	var stderr bytes.Buffer
	d := exec.CommandContext(cmd.Context(), "dpkg-deb", "--fsys-tarfile", deb)
	d.Stderr = &stderr
	files, err := d.Output()
	if err != nil {
		return nil, nil, fmt.Errorf("dpkg-deb: %w %s", err, strings.TrimSpace(stderr.String()))
	}
	modules = map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(files)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		name := strings.TrimPrefix(h.Name, "./")
		if strings.HasPrefix(name, "boot/vmlinuz-") {
			if kernel, err = io.ReadAll(r); err != nil {
				return nil, nil, err
			}
		}
		for _, m := range image.Modules {
			if strings.HasPrefix(name, "usr/lib/modules/") && strings.HasSuffix(name, "/kernel/"+m+".ko.xz") {
				if modules[m], err = io.ReadAll(r); err != nil {
					return nil, nil, err
				}
			}
		}
	}
	if kernel == nil {
		return nil, nil, errors.New("no kernel in it")
	}
	return kernel, modules, nil
}
