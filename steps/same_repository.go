package steps

import (
	"fmt"

	"github.com/pgkeep/pgkeep/state"
)

// sameRepository refuses to delete from a repository that is not the one which was planned for: behind its path another may
// have been mounted since. planned is empty where the plan did not know it.
func sameRepository(c Cluster, label, planned string) error {
	if now := c.RepositoryID(); planned != "" && now != planned {
		return &state.Error{
			Code: state.CodeStale, Hint: "look what is mounted there, and plan again: pgkeep plan",
			Text: fmt.Sprintf("another repository is there now: its id is %s, and %q was %s when this was planned; nothing was deleted", now, label, planned),
		}
	}
	return nil
}
