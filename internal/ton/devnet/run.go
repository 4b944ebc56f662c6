package devnet

import (
	"context"
	"errors"
	"time"
)

// idleBlocks is how many intervals may pass without a block when nothing waits.
const idleBlocks = 10

// Run seals a block each interval in which something waits, and now and then
// an empty one, so that the newest block stays recent. It returns when ctx ends
// (nil) or a block cannot be made.
func (c *Chain) Run(ctx context.Context, interval time.Duration) error {
	if interval <= 0 {
		return errors.New("devnet: the block interval must be positive")
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for idle := 1; ; idle++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if idle < idleBlocks && !c.waiting() {
			continue
		}
		idle = 0
		if err := c.Seal(); err != nil {
			return err
		}
	}
}

// waiting says whether a block would not be empty.
func (c *Chain) waiting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pool) > 0 {
		return true
	}
	for _, l := range c.lanes {
		if len(l.queued) > 0 {
			return true
		}
	}
	return false
}
