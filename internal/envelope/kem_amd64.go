package envelope

import "golang.org/x/sys/cpu"

// clearUpper clears the upper halves of the vector registers, where there are any.
func clearUpper() {
	if cpu.X86.HasAVX {
		vzeroupper()
	}
}

func vzeroupper()
