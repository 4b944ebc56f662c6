package snp

import "sync"

const cacheSize = 1024

// cache is a bounded map with two generations: what was not used while cacheSize other entries came in is forgotten.
type cache[V any] struct {
	mu       sync.Mutex
	now, old map[[32]byte]V
}

func (c *cache[V]) get(key [32]byte) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.now[key]
	if !ok {
		if v, ok = c.old[key]; ok {
			c.insert(key, v)
		}
	}
	return v, ok
}

func (c *cache[V]) put(key [32]byte, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.insert(key, v)
}

func (c *cache[V]) insert(key [32]byte, v V) {
	if c.now == nil || len(c.now) >= cacheSize {
		c.old, c.now = c.now, make(map[[32]byte]V)
	}
	c.now[key] = v
}
