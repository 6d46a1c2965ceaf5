package otelcredent

import (
	"slices"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// other is the attribute value for everything without its own value, as in
// OpenTelemetry's conventions.
const other = "_OTHER"

// key is a comparable set of attributes.
type key interface {
	comparable
	attributes() []attribute.KeyValue
}

// cells holds sums by attributes. Adding to an existing sum doesn't allocate.
type cells[K key] struct {
	mu sync.RWMutex
	of map[K]*cell
}

type cell struct {
	n          atomic.Int64
	attributes metric.MeasurementOption
}

func (c *cells[K]) add(k K, n int64) {
	if n != 0 {
		c.find(k).n.Add(n)
	}
}

// find returns a key's sum, 0 if it is new.
func (c *cells[K]) find(k K) *cell {
	c.mu.RLock()
	found := c.of[k]
	c.mu.RUnlock()
	if found == nil {
		found = c.make(k)
	}
	return found
}

func (c *cells[K]) make(k K) *cell {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found := c.of[k]; found != nil {
		return found
	}
	if c.of == nil {
		c.of = make(map[K]*cell)
	}
	made := &cell{attributes: metric.WithAttributeSet(attribute.NewSet(k.attributes()...))}
	c.of[k] = made
	return made
}

// observe reports all sums to a collection.
func (c *cells[K]) observe(o metric.Observer, to metric.Int64Observable) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, one := range c.of {
		o.ObserveInt64(to, one.n.Load(), one.attributes)
	}
}

// secretKey is a secret's column and outcome.
type secretKey struct {
	table, column string
	stored        string // "token" or "plaintext"; "" for no attribute
	cause         string // "" for success
	tenant        string // "" for no attribute
}

func (k secretKey) attributes() []attribute.KeyValue {
	name := other
	if k.column != "" {
		name = k.table + "." + k.column
	}
	return present("credent.column", name, "credent.stored", k.stored, "error.type", k.cause,
		"credent.tenant", k.tenant)
}

// tableKey is a table and the operation on its rows.
type tableKey struct{ operation, table string }

func (k tableKey) attributes() []attribute.KeyValue {
	return present("credent.operation", k.operation, "credent.table", k.table)
}

// pauseKey is the operation and cause of a pause.
type pauseKey struct{ operation, cause string }

func (k pauseKey) attributes() []attribute.KeyValue {
	return present("credent.operation", k.operation, "error.type", k.cause)
}

// causeKey is the cause of a failure; "" for success.
type causeKey string

func (k causeKey) attributes() []attribute.KeyValue { return present("error.type", string(k)) }

// resultKey is "hit" or "miss".
type resultKey string

func (k resultKey) attributes() []attribute.KeyValue { return present("credent.result", string(k)) }

// noKey has no attributes.
type noKey struct{}

func (noKey) attributes() []attribute.KeyValue { return nil }

// present returns attributes from name and value pairs, without empty values.
func present(pairs ...string) (list []attribute.KeyValue) {
	for pair := range slices.Chunk(pairs, 2) {
		if pair[1] != "" {
			list = append(list, attribute.String(pair[0], pair[1]))
		}
	}
	return list
}

// tenants holds the tenants with their own attribute value: the first ones
// seen.
type tenants struct {
	most  int
	mu    sync.RWMutex
	known map[string]struct{}
}

func (t *tenants) label(tenant string) string {
	if tenant == "" {
		return ""
	}
	t.mu.RLock()
	_, known := t.known[tenant]
	full := len(t.known) >= t.most
	t.mu.RUnlock()
	switch {
	case known:
		return tenant
	case full:
		return other
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known = t.known[tenant]; !known && len(t.known) >= t.most {
		return other
	}
	if t.known == nil {
		t.known = make(map[string]struct{})
	}
	t.known[tenant] = struct{}{}
	return tenant
}
