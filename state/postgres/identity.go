package postgres

import (
	"context"

	"github.com/pgkeep/pgkeep/state"
)

// Identify asks only who the server is: of what Facts tells, the version, host, system identifier, whether it is in
// recovery, the timeline, the end of its WAL, its sizes and its clock.
func (c *Conn) Identify(ctx context.Context) (state.Server, error) {
	s := state.Server{Version: c.version, Host: c.server}
	if err := c.identity(ctx, &s); err != nil {
		return state.Server{}, err
	}
	return s, nil
}
