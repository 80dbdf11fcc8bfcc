# cmake -DOUT=x.c -DTABLE=name -DFILES="a.yaml|b.yaml" -P EmbedText.cmake: writes the files as a C table of espl__bundled.
string(REPLACE "|" ";" files "${FILES}")
list(SORT files)
set(texts "")
set(rows "")
set(index 0)
foreach(file ${files})
  get_filename_component(name ${file} NAME_WE)
  file(READ ${file} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(REGEX REPLACE "(....,....,....,....,....,....,....,....,....,....,....,....,....,....,....,....,)" "\\1\n" bytes "${bytes}")
  string(APPEND texts "static const unsigned char text_${index}[] = {\n${bytes}0};\n")
  string(APPEND rows "    {\"${name}\", (const char *)text_${index}, sizeof text_${index} - 1},\n")
  math(EXPR index "${index} + 1")
endforeach()
file(WRITE ${OUT} "/* Made by cmake/EmbedText.cmake. */\n#include \"base/base.h\"\n\n${texts}
extern const espl__bundled ${TABLE}[];
const espl__bundled ${TABLE}[] = {\n${rows}    {NULL, NULL, 0},\n};\n")
