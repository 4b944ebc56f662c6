package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/attestation/eventlog"
	"github.com/bombyx-network/bombyx/attestation/measure"
	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/internal/cli"
)

func measureCommand() *cobra.Command {
	c := &cobra.Command{Use: "measure", Short: "Compute what an honest machine reports for a guest image",
		Long: `measure computes reference values from a guest image's files: what the hardware reports
when QEMU on Linux starts just them. It runs nothing and needs no such hardware.
docs/verifying.md says how each number was checked, and against what.`,
		Example: `  bombyx measure snp --firmware OVMF.fd --kernel vmlinuz --initrd initrd.img --cmdline "console=ttyS0" --vcpus 4 --vcpu-type EPYC-Genoa
  bombyx measure tdx --firmware OVMF.fd --kernel vmlinuz --initrd initrd.img --cmdline "console=ttyS0"`}
	c.AddCommand(measureSNPCommand(), measureTDXCommand())
	return c
}

// An image is the files of a guest, and what it is called.
type image struct {
	firmware, kernel, initrd, cmdline, name string
	asJSON                                  bool

	files  [][2]string // what is printed about each
	reason string      // what the policy says about it
}

func (i *image) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&i.firmware, "firmware", "", "firmware image, QEMU's -bios")
	f.StringVar(&i.kernel, "kernel", "", "kernel, QEMU's -kernel")
	f.StringVar(&i.initrd, "initrd", "", "initial RAM disk, QEMU's -initrd")
	f.StringVar(&i.cmdline, "cmdline", "", "kernel command line, QEMU's -append")
	f.StringVar(&i.name, "name", "guest image", "what results call it")
	f.BoolVar(&i.asJSON, "json", false, "print an entry for the policy's list of images")
	for _, name := range []string{"firmware", "kernel", "initrd", "cmdline"} {
		c.MarkFlagRequired(name)
	}
	c.RegisterFlagCompletionFunc("cmdline", cobra.NoFileCompletions)
	c.RegisterFlagCompletionFunc("name", cobra.NoFileCompletions)
}

func (i *image) read() (*measure.Firmware, *measure.Direct, error) {
	if i.name == "" {
		return nil, nil, cli.Errorf(cli.Usage, "give it one with --name", "an image needs a name in a policy")
	}
	file := func(name, path string, limit int64) ([]byte, error) {
		b, err := cli.ReadFile(path, limit)
		if err == nil && len(b) == 0 {
			err = cli.Errorf(cli.Usage, "is it the right file?", "%s is empty", path)
		}
		sum := fmt.Sprintf("%x", sha256.Sum256(b))
		i.files = append(i.files, [2]string{name, fmt.Sprintf("%s  %d bytes", sum, len(b))})
		i.reason += name + " " + sum + ", "
		return b, err
	}
	firmware, err := file("firmware", i.firmware, measure.MaxFirmware)
	if err != nil {
		return nil, nil, err
	}
	boot := &measure.Direct{Cmdline: i.cmdline}
	if boot.Kernel, err = file("kernel", i.kernel, measure.MaxKernel); err != nil {
		return nil, nil, err
	}
	if boot.Initrd, err = file("initrd", i.initrd, measure.MaxInitrd); err != nil {
		return nil, nil, err
	}
	i.files = append(i.files, [2]string{"command line", i.cmdline})
	i.reason += fmt.Sprintf("command line %q", i.cmdline)
	f, err := measure.ParseFirmware(firmware)
	if err != nil {
		return nil, nil, cli.Errorf(cli.Usage, "give the whole OVMF.fd of a build for confidential guests", "%s: %w", i.firmware, err)
	}
	return f, boot, nil
}

// print writes the image and its values as a table, or its entry as JSON.
func (i *image) print(w io.Writer, values [][2]string, entry any) error {
	if i.asJSON {
		return printJSON(w, entry)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range append(i.files, values...) {
		fmt.Fprintf(t, "%s\t%s\n", v[0], v[1])
	}
	return t.Flush()
}

func measureSNPCommand() *cobra.Command {
	var i image
	var g measure.SNP
	var cpu string
	c := &cobra.Command{Use: "snp", Short: "The launch digest of an AMD SEV-SNP guest", Args: cobra.NoArgs,
		Long: `snp computes the launch digest. It covers the firmware, kernel, initrd and command line,
and the initial state of each virtual CPU.

The firmware must check what it boots: edk2's OvmfPkg/AmdSev/AmdSevX64.dsc does, and
others are refused here. QEMU 9.1 or later: -bios, sev-snp-guest with kernel-hashes=on, without host
data, identity block or SVSM. The host: Linux 6.11 or later.`,
		Example: `  bombyx measure snp --firmware OVMF.fd --kernel vmlinuz --initrd initrd.img --cmdline "console=ttyS0" --vcpus 4 --vcpu-type EPYC-Genoa`}
	i.flags(c)
	f := c.Flags()
	f.IntVar(&g.VCPUs, "vcpus", 0, "virtual CPUs, QEMU's -smp")
	f.StringVar(&cpu, "vcpu-type", "", "QEMU's -cpu ("+strings.Join(measure.CPUs(), ", ")+"), or the guest's CPUID Fn0000_0001_EAX, such as 0x00a10f11")
	f.Uint64Var(&g.GuestFeatures, "guest-features", 1, "SEV_FEATURES of each virtual CPU; Linux sets 1, SNPActive, alone unless told to")
	c.MarkFlagRequired("vcpus")
	c.MarkFlagRequired("vcpu-type")
	c.RegisterFlagCompletionFunc("vcpus", cobra.NoFileCompletions)
	c.RegisterFlagCompletionFunc("guest-features", cobra.NoFileCompletions)
	c.RegisterFlagCompletionFunc("vcpu-type", cobra.FixedCompletions(measure.CPUs(), cobra.ShellCompDirectiveNoFileComp))
	c.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if g.CPUSignature, err = measure.CPUSignature(cpu); err != nil {
			return cli.Errorf(cli.Usage, "give one of "+strings.Join(measure.CPUs(), ", ")+", or a number", "--vcpu-type: %w", err)
		}
		firmware, boot, err := i.read()
		if err != nil {
			return err
		}
		g.Boot = boot
		digest, err := firmware.LaunchDigest(g)
		if err != nil {
			return cli.Errorf(cli.Usage, "nothing was measured; \"bombyx measure snp --help\" says what is needed", "%s: %w", i.firmware, err)
		}
		vcpus := fmt.Sprintf("%d, CPUID signature %#08x, guest features %#x", g.VCPUs, g.CPUSignature, g.GuestFeatures)
		return i.print(cmd.OutOrStdout(), [][2]string{{"virtual CPUs", vcpus}, {"measurement", hex.EncodeToString(digest[:])}},
			policy.SNPImage{Name: i.name, Reason: i.reason + ", virtual CPUs: " + vcpus, Measurement: policy.Want{Value: digest}})
	}
	return c
}

func measureTDXCommand() *cobra.Command {
	var i image
	var rtmr0 string
	c := &cobra.Command{Use: "tdx", Short: "MRTD and RTMR 1 and 2 of an Intel TDX guest", Args: cobra.NoArgs,
		Long: `tdx computes MRTD, which covers the firmware, RTMR 1, the kernel, and RTMR 2, command
line and initrd; RTMR 3 stays zero. It prints the event behind each, so that a machine's
event log ("bombyx inspect") can be compared with them.

RTMR 0 describes the machine that QEMU builds, its memory and ACPI tables, and cannot be
computed from an image. Take it from the quote of a machine that you trust, and give it
with --rtmr0: --json asks for it. ACPI tables hold code that the guest's kernel runs, so
a policy that lets RTMR 0 be anything trusts the host.

The firmware: edk2 2025.02 or later, built with CC_MEASUREMENT_ENABLE as Debian's is. QEMU
10.1 or later: -bios, tdx-guest without mrconfigid, mrowner and mrownerconfig. The host:
Linux 6.16 or later. The guest: Linux 6.9 or later with CONFIG_EFI_STUB.`,
		Example: `  bombyx measure tdx --firmware OVMF.fd --kernel vmlinuz --initrd initrd.img --cmdline "console=ttyS0"`}
	i.flags(c)
	c.Flags().StringVar(&rtmr0, "rtmr0", "", "RTMR 0 of a machine that you trust, 96 hexadecimal digits")
	c.RegisterFlagCompletionFunc("rtmr0", cobra.NoFileCompletions)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		image := policy.TDImage{Name: i.name, RTMR: make([]policy.Want, 4)}
		if rtmr0 != "" {
			if err := image.RTMR[0].UnmarshalText([]byte(rtmr0)); err != nil || image.RTMR[0].Any {
				return cli.Errorf(cli.Usage, `"bombyx inspect" shows it`, "--rtmr0: want 96 lower-case hexadecimal digits")
			}
		} else if i.asJSON {
			return cli.Errorf(cli.Usage, "give it with --rtmr0, from the quote of a machine that you trust; without --json tdx prints the rest", "RTMR 0 cannot be computed from an image")
		}
		firmware, boot, err := i.read()
		if err != nil {
			return err
		}
		fail := func(what string, err error) error {
			return cli.Errorf(cli.Usage, "nothing was measured; \"bombyx measure tdx --help\" says what is needed", "%s: %w", what, err)
		}
		if image.MRTD.Value, err = firmware.MRTD(); err != nil {
			return fail(i.firmware, err)
		}
		log, err := boot.EventLog()
		if err != nil {
			return fail(i.kernel, err)
		}
		registers, err := eventlog.Replay(log)
		if err != nil {
			return fail(i.kernel, err)
		}
		values := [][2]string{{"MRTD", image.MRTD.String()}, {"RTMR 0", "not computed: it describes the machine"}}
		if rtmr0 != "" {
			values[1][1] = rtmr0 + "  given"
		}
		for n := 1; n < 4; n++ {
			copy(image.RTMR[n].Value[:], registers[n])
			values = append(values, [2]string{fmt.Sprintf("RTMR %d", n), image.RTMR[n].String()})
			for _, e := range log.Events {
				if e.Register == n {
					values = append(values, [2]string{"  " + e.Name, hex.EncodeToString(e.Digest)})
				}
			}
		}
		image.Reason = i.reason + "; RTMR 0 as given"
		return i.print(cmd.OutOrStdout(), values, image)
	}
	return c
}
