// Package azure keeps a repository in a container of Azure Blob Storage.
//
// Every object is one Put Blob with "If-None-Match: *" and its MD5, never a list of blocks. The token of a put is kept as
// metadata, so that a put whose answer was lost is known again. Credentials are the account key of AZURE_STORAGE_KEY, or
// what Azure's own programs use: environment, workload or managed identity, the login of the az program.
package azure
