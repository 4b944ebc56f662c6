package nvidia

// Identifiers of the checks, stable across releases.
const (
	CheckParse     = "nvidia.parse"     // the report is one well-formed SPDM transcript
	CheckChain     = "nvidia.chain"     // five certificates up to a pinned device root
	CheckValidity  = "nvidia.validity"  // every device certificate is valid at the appraisal time
	CheckDebug     = "nvidia.debug"     // the firmware's DICE flags show no debug, recovery or insecure state
	CheckModel     = "nvidia.model"     // certificate and report name the same kind of device
	CheckLock      = "nvidia.lock"      // switch: its configuration is locked against the host
	CheckNonce     = "nvidia.nonce"     // the request carries the caller's nonce
	CheckFWID      = "nvidia.fwid"      // the DICE firmware id of certificate and report agree
	CheckSignature = "nvidia.signature" // the attestation key signed the whole transcript

	CheckDriverRIMSignature = "nvidia.rim.driver.signature" // the XML signature over the whole document
	CheckDriverRIMChain     = "nvidia.rim.driver.chain"     // its signer, up to a pinned RIM root
	CheckDriverRIMValidity  = "nvidia.rim.driver.validity"  // every signer is valid at the appraisal time
	CheckDriverRIMVersion   = "nvidia.rim.driver.version"   // it is for this product and version

	CheckVBIOSRIMSignature = "nvidia.rim.vbios.signature"
	CheckVBIOSRIMChain     = "nvidia.rim.vbios.chain"
	CheckVBIOSRIMValidity  = "nvidia.rim.vbios.validity"
	CheckVBIOSRIMVersion   = "nvidia.rim.vbios.version"

	CheckMeasurements = "nvidia.measurements" // every active golden measurement is in the report

	CheckDeviceOCSP    = "nvidia.ocsp.device"     // revocation of the device chain
	CheckDriverRIMOCSP = "nvidia.ocsp.rim.driver" // revocation of the driver RIM's signers
	CheckVBIOSRIMOCSP  = "nvidia.ocsp.rim.vbios"  // revocation of the VBIOS RIM's signers

	CheckNodeNonce    = "nvidia.node.nonce"    // every device of the node answered the same nonce
	CheckNodeDistinct = "nvidia.node.distinct" // no device is counted twice
	CheckNodeMode     = "nvidia.node.mode"     // one confidential-computing mode across the node
	CheckNodeTopology = "nvidia.node.topology" // GPUs and switches name exactly each other
)
