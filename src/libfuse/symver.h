// Symbol versions: one name, several functions of different age.
#pragma once

// Exports the function `implementation`, which has C linkage, as `versioned`: a name with @VERSION for a
// version that programs linked long ago ask for, with @@VERSION for the one that new programs get. The
// version must be a node of versions.map. At namespace scope, in the file that defines the function.
#define FUSEWIRE_SYMVER(implementation, versioned) __asm__(".symver " #implementation "," versioned)
