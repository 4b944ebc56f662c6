// Package measure computes the Reference Values of a guest image from its
// files: what an honest machine reports when QEMU starts just them. It verifies
// nothing. Rebuild or download an image, measure it here, and put the result
// into a policy.
//
// For AMD SEV-SNP the launch digest covers everything, if the firmware is
// edk2's AmdSev build: firmware, kernel, initrd, command line, and the initial
// state of each virtual CPU. For Intel TDX the firmware is in MRTD, the kernel
// in RTMR 1, command line and initrd in RTMR 2.
//
// What stands behind the numbers: launch digests equal the published ones of
// sev-snp-measure; MRTD equals that of gce-tcb-verifier; the events in RTMR 1
// and 2 are in number and order those of real TDs, and their digests those that
// edk2 and Linux wrote when a real image was booted (docs/verifying.md, "An
// image's measurements"). None was seen on hardware of ours.
package measure
