package devnet

import (
	"context"
	"errors"
	"time"
)

// When nothing waits, so many intervals may pass without a block, but no more
// than a minute: clients refuse a chain whose newest block is old.
const (
	idleBlocks = 10
	idleMost   = time.Minute
)

// Run seals a block at once, one each interval in which something waits, and
// now and then an empty one, so that the newest block stays recent. It returns
// when ctx ends (nil) or a block cannot be made.
func (c *Chain) Run(ctx context.Context, interval time.Duration) error {
	if interval <= 0 {
		return errors.New("devnet: the block interval must be positive")
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	longest := min(idleBlocks*interval, idleMost)
	for idle := longest; ; idle += interval {
		if idle >= longest || c.waiting() {
			idle = 0
			if err := c.Seal(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
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
