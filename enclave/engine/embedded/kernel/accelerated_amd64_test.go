package kernel

// setAccelerated turns the assembly on, where the processor has it, or off, and returns whether it was on.
func setAccelerated(on bool) bool {
	old := accelerated
	accelerated = on && supported
	return old
}

var supported = accelerated
