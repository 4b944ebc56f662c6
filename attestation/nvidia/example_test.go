package nvidia_test

import (
	"fmt"
	"log"
	"os"
	"time"

	"github.com/bombyx-network/bombyx/attestation/nvidia"
)

// Appraise one GPU against NVIDIA's production roots with the two manifests for
// its driver and VBIOS.
func Example() {
	v, err := nvidia.NewVerifier(nvidia.Config{
		DeviceRoots: []nvidia.Fingerprint{nvidia.ProductionDeviceRoot},
		RIMRoots:    []nvidia.Fingerprint{nvidia.ProductionRIMRoot},
	})
	if err != nil {
		log.Fatal(err)
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(name)
		if err != nil {
			log.Fatal(err)
		}
		return b
	}
	var rims []*nvidia.RIM
	for _, name := range []string{"driver.swidtag", "vbios.swidtag"} {
		rim, err := nvidia.ParseRIM(read(name))
		if err != nil {
			log.Fatal(err)
		}
		rims = append(rims, rim)
	}
	res := v.Verify(
		nvidia.Evidence{Report: read("report.bin"), Chain: read("chain.pem")},
		nvidia.Options{Nonce: read("nonce.bin"), Time: time.Now(), Collateral: nvidia.Collateral{RIMs: rims}},
	)
	for _, c := range res.Checks {
		fmt.Println(c.Status, c.ID, c.Detail)
	}
}
