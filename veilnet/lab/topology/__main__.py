# SPDX-License-Identifier: Apache-2.0
"""Write the JSON schema anew after a change of `language`."""

from veilnet.lab.topology import language

language.SCHEMA.write_text(language.text(), encoding="utf-8")
print(language.SCHEMA)
