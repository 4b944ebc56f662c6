package attestation

import (
	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/eventlog"
	"github.com/bombyx-network/bombyx/attestation/nvidia"
	"github.com/bombyx-network/bombyx/attestation/snp"
)

// Identifiers of the checks that this package makes itself. Those of dcap and nvidia keep their own; checks of one device
// get a prefix such as "gpu0.".
const (
	CheckPolicyExpiry  = "policy.expiry"         // the policy itself still holds
	CheckRegistry      = "policy.registry"       // a registry was read recently, behind a long enough time lock; with a prefix such as "registry0."
	CheckParse         = "composite.parse"       // the document is well formed
	CheckNonce         = "composite.nonce"       // the Evidence answers the verifier's nonce
	CheckEpoch         = "policy.epoch"          // the block that the Evidence answers is recent enough
	CheckKeyset        = "composite.keyset"      // the keyset is canonical and has not expired
	CheckCPU           = "composite.cpu"         // the policy accepts this kind of confidential VM
	CheckReportData    = "composite.report_data" // the quote binds nonce, keyset and devices
	CheckDebug         = "policy.debug"          // TD or enclave is closed to its host
	CheckAttributes    = "policy.attributes"     // the TD's attributes are acceptable
	CheckTCB           = "policy.tcb.status"     // the TCB status is acceptable
	CheckMitigations   = "policy.mitigations"    // mitigations that no patch level shows are in place (SEV-SNP)
	CheckTCBFreshness  = "policy.tcb.freshness"  // collateral and TCB are recent enough
	CheckConfiguration = "policy.platform"       // the platform's configuration is acceptable
	CheckImage         = "policy.image"          // the measurements are those of a listed image
	CheckVMPL          = "policy.vmpl"           // the report was asked for at an acceptable privilege level
	CheckKeyKind       = "policy.key"            // the endorsement key is of an acceptable kind
	CheckMode          = "policy.devices.mode"   // mode and number of devices are acceptable
	CheckDeviceModel   = "policy.model"          // the chip is acceptable
	CheckDeviceCC      = "policy.cc_mode"        // the GPU is in the confidential mode that the node's mode demands
	CheckDriver        = "policy.driver"         // the driver is recent enough
	CheckVBIOS         = "policy.vbios"          // VBIOS or BIOS is recent enough
	CheckMachine       = "policy.hardware"       // the machine is known, and not denied
	CheckBuild         = "policy.workload.build"
	CheckConfig        = "policy.workload.config"
	CheckModel         = "policy.workload.model"
)

// titles says in a few words what a PASS of each check means.
var titles = map[string]string{
	CheckPolicyExpiry:  "policy is in force",
	CheckRegistry:      "registry was read recently",
	CheckParse:         "evidence document is well formed",
	CheckNonce:         "evidence answers our nonce",
	CheckEpoch:         "epoch's block is recent enough",
	CheckKeyset:        "keyset is canonical and current",
	CheckCPU:           "kind of confidential VM is accepted",
	CheckReportData:    "quote binds nonce, keys and devices",
	CheckDebug:         "closed to its host (not debug)",
	CheckAttributes:    "TD attributes are accepted",
	CheckTCB:           "TCB status is accepted",
	CheckMitigations:   "required mitigations are in place",
	CheckTCBFreshness:  "collateral and TCB are recent enough",
	CheckConfiguration: "platform configuration is accepted",
	CheckImage:         "guest image or enclave is on the list",
	CheckVMPL:          "report is from an accepted privilege level",
	CheckKeyKind:       "kind of endorsement key is accepted",
	CheckMode:          "mode and device count are accepted",
	CheckDeviceModel:   "chip is accepted",
	CheckDeviceCC:      "GPU is in the right confidential mode",
	CheckDriver:        "driver is recent enough",
	CheckVBIOS:         "firmware is recent enough",
	CheckMachine:       "machine is on a list, and denied by none",
	CheckSections:      "sections have the stated hashes",
	CheckCompose:       "compose file shown is the one measured",
	CheckPayload:       "payload shown is the one in the report data",
	CheckHostData:      "configuration shown is the one launched with",
	CheckCertificate:   "certificate is its key's own and in force",
	CheckBuild:         "enclave build is on the list",
	CheckConfig:        "enclave configuration is on the list",
	CheckModel:         "model manifest is on the list",

	eventlog.CheckDigests: "event data agrees with its digests",

	dcap.CheckParse:            "quote is well formed",
	dcap.CheckChain:            "PCK certificate chains to a pinned Intel root",
	dcap.CheckChainValidity:    "PCK chain is within its validity",
	dcap.CheckRootCRL:          "root CRL is authentic and current",
	dcap.CheckPCKCRL:           "PCK CRL is authentic and current",
	dcap.CheckTCBInfoSignature: "TCB info is signed under the root",
	dcap.CheckTCBInfoValidity:  "TCB info is current",
	dcap.CheckTCBInfoMatch:     "TCB info is for this platform",
	dcap.CheckQEIDSignature:    "QE identity is signed under the root",
	dcap.CheckQEIDValidity:     "QE identity is current",
	dcap.CheckRevocation:       "no certificate in use is revoked",
	dcap.CheckQESignature:      "QE report is signed by the platform",
	dcap.CheckQEBinding:        "QE vouches for the attestation key",
	dcap.CheckQEMatch:          "Quoting Enclave is Intel's",
	dcap.CheckQuoteSignature:   "quote is signed by the attestation key",
	dcap.CheckTCBPlatform:      "platform TCB level found",
	dcap.CheckTCBModule:        "TDX module is Intel's, TCB level found",
	dcap.CheckTCBQE:            "Quoting Enclave TCB level found",
	dcap.CheckTCBStatus:        "TCB status determined",

	snp.CheckParse:         "report is well formed",
	snp.CheckChain:         "endorsement key chains to a pinned AMD root",
	snp.CheckChainValidity: "endorsement chain is within its validity",
	snp.CheckCRL:           "AMD CRL is authentic and current",
	snp.CheckRevocation:    "no certificate in use is revoked",
	snp.CheckKeyKind:       "report and certificate agree on the kind of key",
	snp.CheckKeyProduct:    "report and certificate agree on the product",
	snp.CheckKeyChip:       "endorsement key is that of the chip",
	snp.CheckKeyTCB:        "endorsement key is for the reported TCB",
	snp.CheckSignature:     "report is signed by the endorsement key",
	snp.CheckTCB:           "TCB versions are consistent",

	nvidia.CheckParse:              "report is well formed",
	nvidia.CheckChain:              "device certificate chains to a pinned NVIDIA root",
	nvidia.CheckValidity:           "device chain is within its validity",
	nvidia.CheckDebug:              "firmware is in production state",
	nvidia.CheckModel:              "certificate and report agree on the device",
	nvidia.CheckLock:               "switch is locked against its host",
	nvidia.CheckNonce:              "report answers this node's statement",
	nvidia.CheckFWID:               "firmware that signs is the certified one",
	nvidia.CheckSignature:          "report is signed by the device",
	nvidia.CheckDriverRIMVersion:   "driver RIM is for this driver",
	nvidia.CheckDriverRIMSignature: "driver RIM is signed",
	nvidia.CheckDriverRIMChain:     "driver RIM chains to a pinned root",
	nvidia.CheckDriverRIMValidity:  "driver RIM signer is within its validity",
	nvidia.CheckDriverRIMOCSP:      "driver RIM signer is not revoked",
	nvidia.CheckVBIOSRIMVersion:    "firmware RIM is for this firmware",
	nvidia.CheckVBIOSRIMSignature:  "firmware RIM is signed",
	nvidia.CheckVBIOSRIMChain:      "firmware RIM chains to a pinned root",
	nvidia.CheckVBIOSRIMValidity:   "firmware RIM signer is within its validity",
	nvidia.CheckVBIOSRIMOCSP:       "firmware RIM signer is not revoked",
	nvidia.CheckMeasurements:       "measurements match the RIMs",
	nvidia.CheckDeviceOCSP:         "device chain is not revoked",
	nvidia.CheckNodeNonce:          "all devices answered one nonce",
	nvidia.CheckNodeDistinct:       "no device is counted twice",
	nvidia.CheckNodeMode:           "devices are in one confidential mode",
	nvidia.CheckNodeTopology:       "GPUs and switches are wired to each other alone",
}
