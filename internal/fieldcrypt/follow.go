package fieldcrypt

import (
	"context"
	"strings"
	"sync"
)

// Follow says that triggers keep a table's tenant equal to a column of another table: when that column changes, and when the row
// gets another row of that table. The driver refuses statements that would change a tenant in this way and leave its tokens behind.
type Follow struct {
	Table        string // "user_credentials"
	Via          string // its foreign key: "user_account_id"
	Source       string // "user_accounts"
	SourceColumn string // "user_id"
}

var follows struct {
	sync.RWMutex
	list []Follow
}

// RegisterFollow makes it known to drivers that are made afterwards.
func RegisterFollow(f Follow) {
	follows.Lock()
	defer follows.Unlock()
	follows.list = append(follows.list, f)
}

// followOf returns that of a table; the zero value for none.
func followOf(table string) Follow {
	follows.RLock()
	defer follows.RUnlock()
	for _, f := range follows.list {
		if strings.EqualFold(f.Table, table) {
			return f
		}
	}
	return Follow{}
}

type movingKey struct{}

// MovingTenants returns a context whose statements may change what tenants follow: whoever runs them encrypts the tokens anew.
func MovingTenants(ctx context.Context) context.Context {
	return context.WithValue(ctx, movingKey{}, true)
}

func isMoving(ctx context.Context) bool { return ctx.Value(movingKey{}) != nil }
